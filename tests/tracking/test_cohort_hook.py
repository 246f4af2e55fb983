from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from kedro_datasets.pandas import CSVDataset

from dwp_kedro.tracking.cohort_hook import CohortHook

HERE = "data_processing"
NAMES = [f"{HERE}.target.{part}" for part in ("manifest", "overview", "problems", "contact_sheet")]
OVERVIEW = pd.DataFrame(
    [("ms", "subjects", "50"), ("ms", "look at", "the masks")], columns=["cohort", "fact", "value"]
)
NONE = pd.DataFrame({"problem": []}, dtype=str)
ONE = pd.DataFrame({"problem": ["empty mask"]})


def manifest(**changes: Any) -> pd.DataFrame:
    row = {"group": "", "spacing": "1.0x1.0x1.0", "orientation": "LPS", "intensities": "0 to 9"}
    row |= {"label_voxels": 7, "label_ml": 0.5, "label_values": "0 1", "fingerprint": "f00", **changes}
    return pd.DataFrame([{"subject": f"p{number:02d}", **row, "shape": f"4x5x{number}"} for number in range(50)])


def run(folder: Path, table: pd.DataFrame, problems: pd.DataFrame, pipelines: list[str] | None) -> DataCatalog:
    """Do what a session does with hook and catalog while it makes the datasets."""
    names = [*NAMES, f"{HERE}.problems"]
    catalog = DataCatalog({name: CSVDataset(filepath=str(folder / f"{name}.csv")) for name in names})
    made = [table, OVERVIEW, problems, NONE, problems]
    nodes = [node(lambda: None, None, name, name=f"make_{name}") for name in names]
    hook = CohortHook()
    params = {"project_path": folder.as_posix(), "pipeline_names": pipelines, "only_missing_outputs": False}
    hook.before_pipeline_run(params, Pipeline(nodes), catalog)
    for name, data in zip(names, made, strict=True):
        catalog.save(name, data)
        hook.after_dataset_saved(name, data)
    if problems.empty:
        hook.after_pipeline_run()
    return catalog


def headings(printed: str) -> set[str]:
    """Words of the table's head, which a narrow terminal breaks into lines."""
    return set(printed.split("masks")[1].split("p00")[0].replace(",", " ").split())


def test_a_check_of_the_data_lists_subjects_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path, manifest(), NONE, [HERE])
    printed = capsys.readouterr().out
    assert "target cohort: ms" in printed
    assert "the masks" in printed
    assert printed.count("4x5x") == 40
    assert f"10 more subjects: {HERE}.target.manifest.csv" in printed
    assert printed.rstrip().endswith(f"{HERE}.target.contact_sheet.csv")
    assert "No problems found" in printed
    assert "ml" in headings(printed)
    assert headings(printed).isdisjoint({"voxels", "group", "spacing", "orientation"})  # all have the same
    assert "f00" not in printed


def test_columns_that_say_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table = manifest(label_ml=None).assign(group=["HGG", "LGG"] * 25)
    run(tmp_path, table, NONE, [HERE])
    printed = capsys.readouterr().out
    assert {"voxels", "group"} <= headings(printed)
    assert "ml" not in headings(printed)


def test_a_whole_run_prints_the_overview_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path, manifest(), NONE, None)
    printed = capsys.readouterr().out
    assert "the masks" in printed
    assert "4x5x" not in printed
    assert "contact_sheet" not in printed


def test_cohorts_with_problems_are_read_again_when_a_run_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def kept_after_resuming(problems: pd.DataFrame) -> set[str]:
        catalog = run(tmp_path, manifest(), problems, [HERE])
        names = [*NAMES, f"{HERE}.problems"]
        nodes = [node(lambda: None, None, name, name=f"make_{name}") for name in names]
        params = {"project_path": tmp_path.as_posix(), "pipeline_names": [HERE], "only_missing_outputs": True}
        CohortHook().before_pipeline_run(params, Pipeline(nodes), catalog)
        return {name for name in names if catalog.exists(name)}

    assert kept_after_resuming(ONE) == {f"{HERE}.target.contact_sheet"}
    assert "Problems, as a table: data_processing.problems.csv" in capsys.readouterr().out
    assert kept_after_resuming(NONE) == {*NAMES, f"{HERE}.problems"}
