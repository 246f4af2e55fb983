"""Cells that fail in a run as it is typed: the others go on, the run says which failed, and can be resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

REPORTING = "data/08_reporting/test"
FAILING = ("n2_split0_seed0", "n2_split1_seed0", "n3_split0_seed0", "n3_split1_seed0")
CAUSE = "loss not finite (loss inf, data_term "


def cell_folders(project: Path, method: str, cell: str) -> tuple[Path, Path]:
    data = project / "data"
    return data / f"06_models/test/target_evaluation/{method}", data / f"07_model_output/test/{method}/{cell}"


def lose(project: Path, method: str, cell: str) -> None:
    models, output = cell_folders(project, method, cell)
    for file in models.glob(f"{cell}*"):
        file.unlink()
    shutil.rmtree(output)


def test_cells_fail_and_the_others_go_on(
    project_copy: Path, finished_project: Path, run_as_typed: Any, run_project: Any
):
    for cell in FAILING:
        lose(project_copy, "dwp", cell)
    lose(project_copy, "ri", "n2_split1_seed0")
    # So hot that the prior's part of the loss is infinite.
    run = run_as_typed(
        project_copy, "--env", "test", "--only-missing-outputs",
        "--params", "methods.dwp.target_training.temperature=1e300",
    )  # fmt: skip
    printed = "".join(run.lines)
    assert run.status == 1
    assert "Traceback" not in printed
    resume = "--env test --only-missing-outputs --params methods.dwp.target_training.temperature=1e300"
    assert "The run failed. What is finished is kept; resume with:\n" in printed
    assert f"kedro run {resume}\n" in printed
    at = next(number for number, line in enumerate(run.lines) if line.startswith("Error: "))
    assert run.lines[at] == "Error: 4 of 5 cells failed; what does not need them is made.\n"
    for line, cell in zip(sorted(run.lines[at + 1 : at + 5]), FAILING, strict=True):
        task = cell.replace("_", " ")
        assert line.startswith(f"  dwp.{cell} (train): target dwp {task}: {CAUSE}")
        assert " in step 1 of 4. No state of it had been saved yet. To mend it: " in line
    assert "write_report" in run.lines[at + 5]

    for cell in FAILING:
        models, output = cell_folders(project_copy, "dwp", cell)
        assert not list(models.glob(f"*{cell}*"))
        assert not output.exists()
    models, output = cell_folders(project_copy, "ri", "n2_split1_seed0")
    assert (models / "n2_split1_seed0.safetensors").exists()
    assert (output / "scores.csv").exists()
    tables = [folder / REPORTING / "scores.csv" for folder in (project_copy, finished_project)]
    assert len({table.read_bytes() for table in tables}) == 1, "no table without all cells"

    client = MlflowClient(f"sqlite:///{project_copy}/mlflow.db")
    experiment = client.get_experiment_by_name("dwp-kedro/test")
    parent = max(
        (r for r in client.search_runs([experiment.experiment_id]) if "mlflow.parentRunId" not in r.data.tags),
        key=lambda r: r.info.start_time,
    )
    assert parent.info.status == "FAILED"
    of_parent = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id], of_parent)}
    status = {name: child.info.status for name, child in children.items()}
    assert status == {**{f"dwp.{cell}": "FAILED" for cell in FAILING}, "ri.n2_split1_seed0": "FINISHED"}
    assert all(CAUSE in children[f"dwp.{cell}"].data.tags["failure"] for cell in FAILING)

    run_project(project_copy, only_missing_outputs=True)
    for table in ("scores.csv", "summary_dsc.csv"):
        found, expected = (pd.read_csv(folder / REPORTING / table) for folder in (project_copy, finished_project))
        pd.testing.assert_frame_equal(found, expected)
