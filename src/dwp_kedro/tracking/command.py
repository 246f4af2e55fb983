"""Commands as they are typed: the one that started this run, the one that resumes it, and others to go on with."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

_RESUME = "--only-missing-outputs"


def run_command() -> str:
    """Return this process's Kedro command line, or ``kedro run`` if a program or notebook started it."""
    started_by_kedro = Path(sys.argv[0]).stem in {"kedro", "__main__"} and sys.argv[1:2] == ["run"]
    return shlex.join(["kedro", *sys.argv[1:]]) if started_by_kedro else "kedro run"


def resume_command(folder: Path) -> str:
    """Return the same command, restricted to what is not on disk yet, as it is typed in ``folder``."""
    command = shell_name("kedro", folder) + run_command().removeprefix("kedro")
    return command if _RESUME in shlex.split(command) else f"{command} {_RESUME}"


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
