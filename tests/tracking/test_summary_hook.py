from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.tracking.summary_hook import SummaryHook

SUMMARY = pd.DataFrame({"n_train": [5, 10], "ri": ["0.40 (0.05)", "0.50 (–)"], "dwp": ["0.60 (0.01)", "–"]})


def run(outputs: list[str], folder: Path, run_pipeline: Any) -> None:
    nodes = [node(lambda: SUMMARY, None, name, name=f"make_{name}") for name in outputs]
    run_pipeline(Pipeline(nodes), DataCatalog({}), (SummaryHook(),), folder)


def test_the_table_ends_a_run_that_makes_one(
    tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]
):
    run(["target_evaluation.summary_dsc"], tmp_path, run_pipeline)
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("│┃").split("│" if "│" in line else "┃")] for line in lines]
    assert ["n_train", "ri", "dwp"] in cells
    assert ["5", "0.40 (0.05)", "0.60 (0.01)"] in cells
    assert ["10", "0.50 (–)", "–"] in cells


def test_other_runs_end_without_it(tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]):
    run(["target_evaluation.scores"], tmp_path, run_pipeline)
    assert "Test DSC" not in capsys.readouterr().out
