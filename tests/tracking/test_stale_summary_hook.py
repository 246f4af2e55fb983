from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.tracking.stale_summary_hook import StaleSummaryHook


def join(*values: Any) -> str:
    return "+".join(values)


CELLS = [node(join, "params:text", f"{name}.scores", name=f"score_{name}") for name in ("a", "b")]
SUMMARY = [
    node(join, ["a.scores", "b.scores"], "scores", name="collect", tags="summary"),
    node(join, "scores", "figure", name="draw", tags="summary"),
    node(join, ["scores", "figure"], "report", name="report", tags="summary"),
]
CHAIN = Pipeline([*CELLS, *SUMMARY])
ALL = {"a.scores", "b.scores", "scores", "figure", "report"}


@pytest.fixture
def catalog(tmp_path: Path, run_pipeline: Any) -> DataCatalog:
    """A finished run, its files a second apart."""
    catalog = DataCatalog.from_config(
        {
            "{name}": {"type": "text.TextDataset", "filepath": f"{tmp_path}/{{name}}.txt"},
            "figure": {"type": "text.TextDataset", "filepath": f"{tmp_path}/figure.txt"},
        }
    )
    catalog["params:text"] = "cell"
    run_pipeline(CHAIN, catalog, (), tmp_path)
    for second, name in enumerate(["a.scores", "b.scores", "scores", "figure", "report"]):
        os.utime(tmp_path / f"{name}.txt", (1000 + second, 1000 + second))
    return catalog


def remade_by_resuming(pipeline: Pipeline, catalog: DataCatalog, folder: Path, run_pipeline: Any) -> set[str]:
    run_pipeline(pipeline, catalog, (StaleSummaryHook(),), folder, only_missing_outputs=True)
    return {path.stem for path in folder.glob("*.txt") if path.stat().st_mtime > 2000}


def test_a_finished_run_stays_as_it_is(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    assert remade_by_resuming(CHAIN, catalog, tmp_path, run_pipeline) == set()


def test_a_missing_cell_takes_all_summaries_along(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    (tmp_path / "a.scores.txt").unlink()
    assert remade_by_resuming(CHAIN, catalog, tmp_path, run_pipeline) == ALL - {"b.scores"}


def test_a_newer_input_makes_what_follows_stale_and_nothing_else(
    tmp_path: Path, catalog: DataCatalog, run_pipeline: Any
):
    os.utime(tmp_path / "figure.txt", (1500, 1500))
    assert remade_by_resuming(CHAIN, catalog, tmp_path, run_pipeline) == {"report"}


def test_the_newest_file_of_a_folder_counts(tmp_path: Path, run_pipeline: Any):
    volumes = {
        "type": "partitions.PartitionedDataset",
        "path": f"{tmp_path}/volumes",
        "dataset": "text.TextDataset",
    }
    table = {"type": "text.TextDataset", "filepath": f"{tmp_path}/table.txt"}
    catalog = DataCatalog.from_config({"volumes": volumes, "table": table})
    catalog.save("volumes", {"deep/one": "1", "two": "2"})
    counting = Pipeline([node(lambda volumes: str(len(volumes)), "volumes", "table", name="n", tags="summary")])
    catalog.save("table", "old")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1000, 1000))
    assert remade_by_resuming(counting, catalog, tmp_path, run_pipeline) == set()
    os.utime(tmp_path / "volumes" / "deep" / "one", (1500, 1500))
    assert remade_by_resuming(counting, catalog, tmp_path, run_pipeline) == {"table"}


def test_nothing_is_deleted_that_this_run_cannot_rebuild(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    (tmp_path / "a.scores.txt").unlink()
    os.utime(tmp_path / "b.scores.txt", (1500, 1500))
    assert remade_by_resuming(Pipeline(SUMMARY), catalog, tmp_path, run_pipeline) == set()
    assert (tmp_path / "report.txt").exists()


def test_a_plain_run_deletes_nothing_beforehand(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    os.utime(tmp_path / "a.scores.txt", (1500, 1500))
    failing = Pipeline([node(lambda: 1 / 0, None, "never", name="fails"), *CHAIN.nodes])
    with pytest.raises(ZeroDivisionError):
        run_pipeline(failing, catalog, (StaleSummaryHook(),), tmp_path)
    assert (tmp_path / "report.txt").exists()
