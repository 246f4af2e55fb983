from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwp_kedro.tracking.command import (
    environment_option,
    restrictions,
    resume_command,
    run_command,
    shell_name,
)

RUN: dict[str, Any] = {
    "run_id": "2025-01-01T00.00.00.000Z",
    "project_path": "/project",
    "env": "test",
    "pipeline_names": None,
    "tags": (),
    "namespaces": None,
    "only_missing_outputs": False,
    "runtime_params": {},
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEDRO_ENV", "DWP_DATA_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("program", ["/venv/bin/kedro", "python -m kedro"])
def test_a_typed_command_comes_back_as_it_was(program: str, monkeypatch: pytest.MonkeyPatch):
    arguments = [
        "run",
        "--params",
        "prior=/my priors/a.safetensors,grid.n_test=3",
        "--pipelines",
        "target_evaluation",
    ]
    monkeypatch.setattr("sys.argv", [program, *arguments])
    command = run_command(RUN)
    assert shlex.split(command) == ["kedro", *arguments]
    monkeypatch.setenv("DWP_DATA_ROOT", "/my scans")
    assert run_command(RUN) == f"DWP_DATA_ROOT='/my scans' {command}"


def test_a_run_of_a_program_or_notebook_has_a_command_in_python(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["/venv/bin/ipykernel_launcher.py", "run"])
    given = {"grid": {"n_train": [2, 3]}, "prior": "it's.safetensors"}
    run = {**RUN, "runtime_params": given, "pipeline_names": ["target_evaluation"], "only_missing_outputs": True}
    for command in (run_command(run), resume_command(Path(), {**run, "only_missing_outputs": False})):
        calls: list[Any] = []

        def call(*, _calls: list[Any] = calls, **arguments: Any) -> Any:
            _calls.append(arguments)
            return SimpleNamespace(run=call)

        eval(command, {"KedroSession": SimpleNamespace(create=call)})
        assert calls == [
            {"env": "test", "runtime_params": given},
            {"pipeline_names": ["target_evaluation"], "only_missing_outputs": True},
        ]
    assert run_command(RUN) == "KedroSession.create(env='test').run()"
    monkeypatch.setenv("DWP_DATA_ROOT", "/scans")
    expected = "os.environ |= {'DWP_DATA_ROOT': '/scans'}; KedroSession.create(env='test').run()"
    assert run_command(RUN) == expected


def test_what_leaves_out_a_part_is_named():
    assert restrictions(RUN) == []
    assert restrictions({**RUN, "tags": ("n3",), "only_missing_outputs": True}) == ["tags", "only_missing_outputs"]


def test_a_program_that_the_shell_finds_has_its_bare_name(environment_folder: Path):
    assert shell_name("kedro", environment_folder.parents[1]) == "kedro"


def test_a_program_that_the_shell_does_not_find_has_its_path(
    environment_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shell_name("kedro", environment_folder.parents[1]) == ".venv/bin/kedro"
    assert shell_name("kedro", tmp_path) == str(environment_folder / "kedro")
    monkeypatch.setattr("sys.argv", ["/anywhere/kedro", "run", "--env", "test"])
    command = ".venv/bin/kedro run --env test --only-missing-outputs"
    assert resume_command(environment_folder.parents[1], RUN) == command
    monkeypatch.setattr("sys.argv", ["/anywhere/kedro", *shlex.split(command)[1:]])
    assert resume_command(environment_folder.parents[1], RUN) == command


def test_another_environments_program_is_not_meant(
    environment_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copy(environment_folder / "kedro", tmp_path / "kedro")
    monkeypatch.setenv("PATH", f"{tmp_path}:{environment_folder}")
    assert shell_name("kedro", environment_folder.parents[1]) == ".venv/bin/kedro"
    assert shell_name("mlflow", environment_folder.parents[1]) == "mlflow"


def test_a_program_of_no_environment_has_its_bare_name(environment_folder: Path):
    (environment_folder / "kedro").unlink()
    assert shell_name("kedro", environment_folder.parents[1]) == "kedro"


@pytest.mark.parametrize(
    ("name", "option"), [(None, ""), ("test", " --env test"), ("big lab", " --env 'big lab'")]
)
def test_environment_option(name: str | None, option: str):
    assert environment_option(name) == option
