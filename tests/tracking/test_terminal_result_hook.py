from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.imaging.predicted_scan import PredictedScan, ScanToPredict
from dwp_kedro.tracking.terminal_result_hook import PredictionError, ResultHook

Predict = Callable[..., str]


@pytest.fixture(autouse=True)
def _kedro_says_nothing_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """It does, on the terminal, as soon as any other test has imported its project."""
    caplog.set_level(logging.WARNING, logger="kedro")


class LastWords:
    """Another hook that speaks when all is over, as that of MLflow does."""

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        print("MLflow: somewhere")


def scan(name: str, problem: str = "", note: str = "") -> ScanToPredict:
    rows = [{"name": name, "class": of_class, "note": note} for of_class in ("rim", "core")]
    made = PredictedScan([{"name": name, "problem": problem}]) if problem else PredictedScan(
        rows, {"mask.nii.gz": b"x"}
    )  # fmt: skip
    return ScanToPredict(name, lambda: "f", lambda: made)


@pytest.fixture
def predict(tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Save scans as the pipeline does; return what was printed."""

    def run(*scans: ScanToPredict, place: str = "out") -> str:
        dataset = {"type": "dwp_kedro.datasets.PredictionsDataset", "path": str(tmp_path / place)}
        catalog = DataCatalog.from_config({"prediction.predictions": dataset})
        nodes = Pipeline([node(lambda: scans, None, "prediction.predictions", name="predict")])
        run_pipeline(nodes, catalog, (LastWords(), ResultHook()), tmp_path / "project")
        return capsys.readouterr().out

    return run


def test_a_prediction_ends_with_its_folder_and_its_scans(predict: Predict, tmp_path: Path):
    assert predict(scan("a"), scan("b", note="look"), place="project/out").splitlines()[-2:] == [
        "MLflow: somewhere",
        "Predictions: out (2 of 2 scans predicted, 1 with a note; see volumes.csv)",
    ]
    assert f"Predictions: {tmp_path}/out (1 of 1 scan predicted; see" in predict(scan("a"))


def test_a_failed_scan_is_counted_and_then_named(predict: Predict, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(PredictionError) as error:
        predict(scan("a"), scan("b", "it is cut short."), scan("c", "it is empty."), scan("c", "it is empty."))
    assert str(error.value) == (
        "3 of 4 scans could not be predicted; the others are done:\n"
        "  b: it is cut short.\n  c: it is empty.\n  c: it is empty.\n"
        "Mend or remove these and give the same command again: it passes over what is done."
    )
    assert "out (1 of 4 scans predicted; see volumes.csv)" in capsys.readouterr().out


def test_what_is_handed_over_is_named_once(tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]):
    text = {"type": "text.TextDataset"}
    places = {
        "export_prior.prior@a": "p.safetensors", "export_prior.prior@b": "p.safetensors",
        "export_prior.card": "p.safetensors.md", "target_evaluation.x": "x.txt",
    }  # fmt: skip
    catalog = DataCatalog.from_config({n: {**text, "filepath": f"{tmp_path}/{f}"} for n, f in places.items()})
    names = [name for name in places if not name.endswith("@b")]
    nodes = [node(lambda: "text", None, name, name=f"make_{number}") for number, name in enumerate(names)]
    read = node(lambda prior: prior, "export_prior.prior@b", "length", name="read")
    run_pipeline(Pipeline([*nodes, read]), catalog, (ResultHook(),), tmp_path)
    printed = capsys.readouterr().out
    assert printed.endswith("Written:    p.safetensors\n            p.safetensors.md\n")
    assert printed.count("p.safetensors") == 2


def test_other_runs_end_without_it(tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]):
    nodes = Pipeline([node(lambda: "text", None, "target_evaluation.x", name="x")])
    run_pipeline(nodes, DataCatalog(), (ResultHook(),), tmp_path)
    printed = capsys.readouterr().out
    assert "Written" not in printed
    assert "Predictions" not in printed
