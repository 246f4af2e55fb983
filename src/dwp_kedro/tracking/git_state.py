"""The commit that a run was made from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def git_state(folder: Path) -> tuple[str, bool] | None:
    """Return the commit that is checked out in ``folder``, and whether files there differ from it.

    A file that Git neither knows nor is told to ignore, such as a new environment's, counts as a difference.
    None outside of a repository, before its first commit, and where Git is not installed.
    """
    git = shutil.which("git")
    if git is None:
        return None
    asked = [git, "-C", str(folder), "status", "--porcelain=v2", "--branch"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    lines = answer.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if answer.returncode != 0 or commit == "(initial)":
        return None
    return commit, any(not line.startswith("#") for line in lines)
