from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dwp_kedro.tracking.command import environment_option, resume_command, shell_name


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
    assert resume_command(environment_folder.parents[1]) == command


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
