from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dwp_kedro.tracking.git_state import git_state


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    asked = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs Git")
def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) is None
    (tmp_path / "known").write_text("1")
    (tmp_path / ".gitignore").write_text("data/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == (commit, False)

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "result").write_text("1")
    assert git_state(tmp_path) == (commit, False)
    (tmp_path / "new").write_text("1")
    assert git_state(tmp_path) == (commit, True)
    (tmp_path / "new").unlink()
    (tmp_path / "known").write_text("2")
    assert git_state(tmp_path) == (commit, True)

    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None
