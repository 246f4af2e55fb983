from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError
from kedro.runner import AbstractRunner
from kedro.utils import load_obj
from omegaconf.errors import InterpolationKeyError
from yaml import YAMLError

from dwp_kedro.cli import cli
from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.pipelines.plan import PlanHook

REPOSITORY = Path(__file__).parents[1]


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Any:
    def callback(**arguments: Any) -> None:
        raise error

    monkeypatch.setattr(cli.commands["run"], "callback", callback)
    return CliRunner().invoke(cli, ["run"])


def wrapped() -> DatasetError:
    error = DatasetError("Failed while saving data to dataset")
    error.__cause__ = CohortError("the cohort has a problem")
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CohortError("the cohort has a problem"), "the cohort has a problem"),
        (wrapped(), "the cohort has a problem"),
        (DatasetError("the file is there already"), "the file is there already"),
        (
            InterpolationKeyError("Interpolation key 'environment' not found"),
            "Interpolation key 'environment' not found",
        ),
        (CohortError("a\x1b[2Jb\n  c\x07"), "a\\x1b[2Jb\n  c\\x07"),
        (YAMLError("globals.yml, unable to read line 3"), "globals.yml, unable to read line 3"),
    ],
)
def test_what_the_user_can_mend_is_told_without_a_traceback(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
):
    result = fail_with(error, monkeypatch)
    assert result.exit_code == 1
    assert result.output == f"Error: {told}\n"


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    error = ValueError("a bug")
    assert fail_with(error, monkeypatch).exception is error


def test_a_value_of_params_that_is_no_yaml_is_told():
    result = CliRunner().invoke(cli, ["run", "--params", "grid.n_train=[3"])
    assert result.exit_code == 2
    assert "--params: a value is no YAML" in result.output
    assert "[3" in result.output


def test_the_command_is_kedros_own():
    assert cli.commands["run"].params == kedro_run.params
    assert cli.commands["run"].callback == kedro_run.callback


def test_a_wrong_parameter_ends_a_run_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(REPOSITORY / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "conf" / "local").mkdir()
    (tmp_path / "src").mkdir()  # the code is imported already
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PlanHook, "plan", None)
    monkeypatch.setattr(PlanHook, "project_path", PlanHook.project_path)
    bootstrap_project(tmp_path)
    result = CliRunner().invoke(cli, ["run", "--env", "test", "--params", "grid.n_trian=3"])
    assert result.exit_code == 1
    assert "grid.n_trian in --params: there is no such parameter; did you mean n_train?" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ([], "dwp_kedro.tracking.runners.SequentialRunner"),
        (["--runner", "SequentialRunner"], "dwp_kedro.tracking.runners.SequentialRunner"),
        (["--runner=ThreadRunner"], "dwp_kedro.tracking.runners.ThreadRunner"),
        (["-r", "ParallelRunner"], "ParallelRunner"),
        (["--runner", "mine.Runner"], "mine.Runner"),
    ],
)
def test_cells_may_fail_under_the_runners_of_this_project(
    options: list[str], used: str, monkeypatch: pytest.MonkeyPatch
):
    given: list[str] = []
    monkeypatch.setattr(cli.commands["run"], "callback", lambda **arguments: given.append(arguments["runner"]))
    assert CliRunner().invoke(cli, ["run", *options]).exit_code == 0
    assert given == [used]
    assert "." not in used or used.startswith("mine") or issubclass(load_obj(used), AbstractRunner)
