"""The command that started this run, and the one that resumes it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_RESUME = "--only-missing-outputs"


def run_command() -> str:
    """Return this process's Kedro command line, or ``kedro run`` if a program or notebook started it."""
    started_by_kedro = Path(sys.argv[0]).stem in {"kedro", "__main__"} and sys.argv[1:2] == ["run"]
    return shlex.join(["kedro", *sys.argv[1:]]) if started_by_kedro else "kedro run"


def resume_command() -> str:
    """Return the same command, restricted to what is not on disk yet."""
    command = run_command()
    return command if _RESUME in shlex.split(command) else f"{command} {_RESUME}"
