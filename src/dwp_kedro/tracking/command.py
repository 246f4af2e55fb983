"""Commands as they are typed: the one that started a run, the one that resumes it, and others to go on with."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PROGRAMS = {"kedro", "python -m kedro"}
"""What Kedro's command line calls itself; the second is set by Kedro."""

_RESUME = "--only-missing-outputs"
_VARIABLES = ("KEDRO_ENV", "DWP_DATA_ROOT")
"""Environment variables that the configuration reads."""

_SELECTION = (
    "pipeline_names",
    "namespaces",
    "tags",
    "node_names",
    "from_nodes",
    "to_nodes",
    "from_inputs",
    "to_outputs",
    "only_missing_outputs",
)
"""Those of Kedro's run parameters that leave out a part of the pipeline."""


def run_command(run_params: Mapping[str, Any]) -> str:
    """Return the command of a run: as it was typed, or in Python if a program or notebook started it.

    Environment variables that the configuration reads stand before it. ``run_params`` are those of Kedro's hooks.
    """
    return _typed("kedro", sys.argv[1:]) if _is_typed() else _in_python(run_params)


def resume_command(folder: Path, run_params: Mapping[str, Any]) -> str:
    """Return the same command, restricted to what is not on disk yet, as it is typed in ``folder``."""
    if not _is_typed():
        return _in_python({**run_params, "only_missing_outputs": True})
    arguments = sys.argv[1:] if _RESUME in sys.argv else [*sys.argv[1:], _RESUME]
    return _typed(shell_name("kedro", folder), arguments)


def restrictions(run_params: Mapping[str, Any]) -> list[str]:
    """Return the names of the run parameters that let this run leave out a part of the pipeline."""
    return [name for name in _SELECTION if run_params.get(name)]


def shell_name(program: str, folder: Path) -> str:
    """Return what a shell in ``folder`` calls a program of this Python's environment by.

    That is its name; or its path, where the shell would find no such program, or that of another environment.
    """
    installed = shutil.which(program, path=str(Path(sys.executable).parent))
    found = shutil.which(program)
    if installed is None or (found is not None and Path(found).absolute() == Path(installed)):
        return program
    path = Path(installed)
    return shlex.quote(str(path.relative_to(folder) if path.is_relative_to(folder) else path))


def environment_option(environment: str | None) -> str:
    """Return ``--env`` with a space before it, or nothing for the default environment."""
    return f" --env {shlex.quote(environment)}" if environment else ""


def _is_typed() -> bool:
    return Path(sys.argv[0]).stem in _PROGRAMS and sys.argv[1:2] == ["run"]


def _typed(program: str, arguments: Sequence[str]) -> str:
    variables = [f"{name}={shlex.quote(os.environ[name])}" for name in _VARIABLES if os.environ.get(name)]
    return " ".join([*variables, program, shlex.join(arguments)])


def _in_python(run_params: Mapping[str, Any]) -> str:
    created = {"env": run_params["env"], "runtime_params": run_params["runtime_params"]}
    selected = {name: run_params[name] for name in restrictions(run_params)}
    variables = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    before = f"os.environ |= {variables!r}; " if variables else ""
    return f"{before}KedroSession.create({_arguments(created)}).run({_arguments(selected)})"


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value)
