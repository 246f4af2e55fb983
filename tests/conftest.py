from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# Volumes here are so small that an operation's threads only wait for each other. Read by torch on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run: no change turns red by chance. `--hypothesis-profile=search` draws new ones.
settings.register_profile("search", print_blob=True)
settings.register_profile("repeat", derandomize=True)
settings.load_profile("repeat")

REPOSITORY = Path(__file__).parents[1]
TERMINAL = "terminal.txt"
SECONDS = "terminal_seconds.txt"


def copy_of_project(folder: Path) -> Path:
    """Copy what Kedro needs to run the project, settings and code, without anybody's data or secrets."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
    for name in ("conf", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=unwanted)
    (folder / "conf" / "local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that would lead a run out of its folder."""
    leading_out = {"MLFLOW_TRACKING_URI", "DWP_DATA_ROOT", "KEDRO_ENV", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in leading_out}
    return {**kept, "COLUMNS": "200"}


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which ``kedro run --env test`` has been run once; copy it before changing it.

    What the run printed is in ``terminal.txt``. For each of these lines ``terminal_seconds.txt`` has the seconds
    that went by until it came, and the seconds for which the run had a processor until then.
    """
    project = copy_of_project(tmp_path_factory.mktemp("project") / "dwp-kedro")
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--env", "test"],
        cwd=project,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    usage = psutil.Process(process.pid)
    lines, seconds = [], []
    for line in process.stdout:
        lines.append(line)
        times = usage.cpu_times()
        seconds.append(f"{time.monotonic() - started:.2f} {times.user + times.system:.2f}\n")
    (project / TERMINAL).write_text("".join(lines), encoding="utf-8")
    (project / SECONDS).write_text("".join(seconds))
    assert process.wait() == 0, "".join(lines[-60:])
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
