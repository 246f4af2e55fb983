from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner, SequentialRunner

RunPipeline = Callable[..., None]


def run_like_a_session(
    pipeline: Pipeline,
    catalog: DataCatalog,
    hooks: tuple[Any, ...],
    project_path: Path,
    environment: str | None = None,
    runner: AbstractRunner | None = None,
    only_missing_outputs: bool = False,
) -> None:
    """Call runner and hooks in the order of ``KedroSession.run``."""
    manager = _create_hook_manager()
    _register_hooks(manager, hooks)
    run_params = {
        "run_id": "2025-01-01T00.00.00.000Z",
        "project_path": project_path.as_posix(),
        "env": environment,
        "pipeline_names": None,
        "runtime_params": {"n": 1},
        "only_missing_outputs": only_missing_outputs,
    }
    given = {"run_params": run_params, "pipeline": pipeline, "catalog": catalog}
    manager.hook.before_pipeline_run(**given)
    try:
        result = (runner or SequentialRunner()).run(
            pipeline, catalog, manager, only_missing_outputs=only_missing_outputs
        )
    except Exception as error:
        manager.hook.on_pipeline_error(error=error, **given)
        raise
    manager.hook.after_pipeline_run(run_result=result, **given)


@pytest.fixture(scope="session")
def run_pipeline() -> RunPipeline:
    return run_like_a_session


@pytest.fixture(autouse=True)
def _active_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed commands have bare names, also where the tests' own environment is not active."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


@pytest.fixture
def environment_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bin folder of a made-up active environment, in which Kedro and MLflow are installed."""
    folder = tmp_path_factory.mktemp("project") / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("kedro", "mlflow"):
        (folder / name).write_text("")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder))
    return folder
