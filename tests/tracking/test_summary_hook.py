from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.tracking.summary_hook import SummaryHook

DSC, IOU = "target_evaluation.summary_dsc", "target_evaluation.summary_iou"
SUMMARY = pd.DataFrame({"n_train": [5, 10], "ri": ["0.40 (0.05)", "0.50 (–)"], "dwp": ["0.60 (0.01)", "–"]})


def run(outputs: list[str], folder: Path, run_pipeline: Any) -> None:
    nodes = [node(lambda: SUMMARY, None, name, name=f"make_{name}") for name in outputs]
    run_pipeline(Pipeline(nodes), DataCatalog({}), (SummaryHook(),), folder)


def test_both_tables_end_a_run_that_makes_them(
    tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]
):
    run([IOU, DSC], tmp_path, run_pipeline)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("Test")] == ["Test DSC", "Test IoU"]
    cells = [[cell.strip() for cell in line.strip("│┃").split("│" if "│" in line else "┃")] for line in lines]
    for row in (["n_train", "ri", "dwp"], ["5", "0.40 (0.05)", "0.60 (0.01)"], ["10", "0.50 (–)", "–"]):
        assert cells.count(row) == 2


def test_other_runs_end_without_them(tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]):
    run(["target_evaluation.scores"], tmp_path, run_pipeline)
    assert "Test" not in capsys.readouterr().out
