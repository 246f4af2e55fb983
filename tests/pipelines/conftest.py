from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.framework.context import KedroContext
from kedro.framework.project import configure_project
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol

from dwp_kedro.pipelines.plan import PlanHook

OpenProject = Callable[..., KedroContext]
RunProject = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_trace_of_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlanHook, "plan", None)
    monkeypatch.setattr(PlanHook, "project_path", PlanHook.project_path)
    for name in ("MLFLOW_TRACKING_URI", "DWP_DATA_ROOT", "KEDRO_ENV"):
        monkeypatch.delenv(name, raising=False)
    configure_project("dwp_kedro")


@pytest.fixture
def open_project(monkeypatch: pytest.MonkeyPatch) -> OpenProject:
    """Open a project in an environment; ``kedro.framework.project.pipelines`` are then its pipelines."""

    def open_it(
        project: Path, env: str | None = "test", runtime_params: dict[str, Any] | None = None
    ) -> KedroContext:
        monkeypatch.chdir(project)
        configure_project("dwp_kedro")
        return KedroSession.create(project, env=env, runtime_params=runtime_params).load_context()

    return open_it


@pytest.fixture
def run_project(monkeypatch: pytest.MonkeyPatch) -> RunProject:
    """Run a project folder in this process, which has imported everything already."""

    def run(
        project: Path, env: str | None = "test", runtime_params: dict[str, Any] | None = None, **selection: Any
    ) -> None:
        monkeypatch.chdir(project)
        configure_project("dwp_kedro")
        with KedroSession.create(project, env=env, runtime_params=runtime_params) as session:
            session.run(**selection)

    return run


@pytest.fixture
def catalog(finished_project: Path, open_project: OpenProject) -> CatalogProtocol:
    """The catalog of the finished project."""
    return open_project(finished_project).catalog


@pytest.fixture
def project_copy(finished_project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project that a test may change; files keep their times."""
    copy = shutil.copytree(finished_project, tmp_path / "copy", ignore=shutil.ignore_patterns("mlruns"))
    with sqlite3.connect(copy / "mlflow.db") as database:
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
            (finished_project.as_posix(), copy.as_posix()),
        )
    database.close()
    return copy


@pytest.fixture
def new_project(finished_project: Path, tmp_path: Path) -> Path:
    """A copy of the project in which nothing was run."""
    made = shutil.ignore_patterns("data", "mlruns", "mlflow.db*", "terminal*")
    return shutil.copytree(finished_project, tmp_path / "new", ignore=made)


@pytest.fixture(scope="session")
def reporting(finished_project: Path) -> Path:
    """The finished project's folder of tables, figures and the report."""
    return finished_project / "data" / "08_reporting" / "test"


@pytest.fixture(scope="session")
def scores(reporting: Path) -> pd.DataFrame:
    """The finished project's scores, a row per cell, test subject and class."""
    return pd.read_csv(reporting / "scores.csv")
