from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from forked_runs import printed, run
from small_projects import EVERYTHING, EXPORT, PREDICTION, make_small_project


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """A small project in which nothing was run."""
    return make_small_project(tmp_path / "project")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project in which all pipelines have run once; copy it before changing it."""
    project = make_small_project(tmp_path_factory.mktemp("reliability") / "uninterrupted")
    for command in (EVERYTHING, PREDICTION, EXPORT):
        assert run(project, *command.split()) == 0, printed(project)
    return project


@pytest.fixture
def without_cells(uninterrupted: Path, tmp_path: Path) -> Path:
    """A copy of the uninterrupted project from before its cells, without a database of MLflow."""
    made = shutil.ignore_patterns(
        "mlflow.db*", "mlruns", "07_model_output", "08_reporting", "predicted", "exported"
    )
    project = shutil.copytree(uninterrupted, tmp_path / "without_cells", ignore=made)
    shutil.rmtree(project / "data/06_models/test/target_evaluation")
    return project
