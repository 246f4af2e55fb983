from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from project_folder import REPOSITORY, clean_environment, copy_of_project

# Volumes here are so small that an operation's threads only wait for each other. Read by torch on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run: no change turns red by chance. `--hypothesis-profile=search` draws new ones.
settings.register_profile("search", print_blob=True)
settings.register_profile("repeat", derandomize=True)
settings.load_profile("repeat")

TERMINAL = "terminal.txt"
SECONDS = "terminal_seconds.txt"
MEMORY = "terminal_memory.txt"


@dataclass(frozen=True)
class WatchedRun:
    """What a command printed, with a row per line of what it had used until then."""

    lines: list[str]
    seconds: list[tuple[float, float]]
    """Since its start, and of those for which it had a processor."""
    megabytes: list[float]
    """Memory that it held."""
    status: int


def kedro_run(project: Path, *options: str) -> WatchedRun:
    """Run ``kedro run`` as it is typed in a project's folder."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", *options],
        cwd=project,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    usage = psutil.Process(process.pid)
    run = WatchedRun([], [], [], 0)
    for line in process.stdout:
        times = usage.cpu_times()
        run.lines.append(line)
        run.seconds.append((time.monotonic() - started, times.user + times.system))
        run.megabytes.append(usage.memory_info().rss / 2**20)
    return replace(run, status=process.wait())


@pytest.fixture(scope="session")
def run_as_typed() -> Callable[..., WatchedRun]:
    """:func:`kedro_run`, for tests."""
    return kedro_run


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which ``kedro run --env test`` has been run once; copy it before changing it.

    What the run printed is in ``terminal.txt``. For each of these lines ``terminal_seconds.txt`` has the seconds
    that went by until it came, and the seconds for which the run had a processor until then;
    ``terminal_memory.txt`` the memory that it held, MiB.
    """
    project = copy_of_project(tmp_path_factory.mktemp("project") / "dwp-kedro")
    run = kedro_run(project, "--env", "test")
    (project / TERMINAL).write_text("".join(run.lines), encoding="utf-8")
    (project / SECONDS).write_text("".join(f"{passed:.2f} {busy:.2f}\n" for passed, busy in run.seconds))
    (project / MEMORY).write_text("".join(f"{megabytes:.1f}\n" for megabytes in run.megabytes))
    assert run.status == 0, "".join(run.lines[-60:])
    return project


@pytest.fixture
def unrun_project(tmp_path: Path) -> Path:
    """A copy of the project as it is in the repository."""
    return copy_of_project(tmp_path / "dwp-kedro")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real labelled scans, where they are present."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real scans in ../shared/data, absent here")
    return folder


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Reference numbers of the paper's network and kernel VAE, where they are present."""
    folder = REPOSITORY.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("needs the reference numbers in ../shared/vectors, absent here")
    return folder
