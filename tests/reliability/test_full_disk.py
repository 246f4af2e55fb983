"""Runs on a disk that is full or must not be written to: real ones, in memory, where this user may mount them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from comparing import assert_whole, files_of, runs_of
from forked_runs import printed, run

Mount = Callable[..., Path]
CELL = "run --env test --namespaces target_evaluation.ri"
FILLER = "filler"
DATABASE_BYTES = 100_000
"""MLflow's database is larger."""


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Put a disk in memory of so many KiB over a folder."""
    mounted: list[Path] = []

    def mount_it(folder: Path, size: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this user may not mount a disk in memory: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount_it
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    with (disk / FILLER).open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_results_on_a_full_disk(without_cells: Path, uninterrupted: Path, mount: Mount):
    """The volumes of one cell need more than 12 KiB."""
    full = mount(without_cells / "data/07_model_output", 12)
    assert run(without_cells, *CELL.split()) == 1
    told = printed(without_cells)
    assert f"Error: {full}/test/" in told
    assert "cannot be written: No space left on device. Free space on that disk" in told
    assert "Traceback" not in told
    assert "--only-missing-outputs" in told, "how to go on"
    assert_whole(without_cells, uninterrupted)
    assert any(name.endswith("n2_split0_seed0.safetensors") for name in files_of(without_cells))
    [parent], children = runs_of(without_cells)
    assert parent.info.status == "FAILED"
    assert "FAILED" in {child.info.status for found in children.values() for child in found}

    remount(full, "size=10m")
    assert run(without_cells, *CELL.split(), "--only-missing-outputs") == 0, printed(without_cells)
    assert_whole(without_cells, uninterrupted)


def test_a_folder_of_results_that_is_read_only(without_cells: Path, mount: Mount):
    folder = mount(without_cells / "data/07_model_output", 100)
    remount(folder, "ro")
    assert run(without_cells, *CELL.split()) == 1
    told = printed(without_cells)
    assert f"Error: This run could not save what it makes. Let this user write to\n  {folder}" in told
    assert "Traceback" not in told
    assert not (without_cells / "data/06_models/test/target_evaluation").exists(), "before anything ran"
    assert not (without_cells / "mlflow.db").exists()


def test_a_database_that_the_disk_has_no_room_for(small_project: Path):
    command = ["run", "--env", "test", "--pipelines", "data_processing"]
    assert run(small_project, *command, file_size=DATABASE_BYTES) == 1
    told = printed(small_project)
    assert f"Error: MLflow cannot be used at sqlite:///{small_project}/mlflow.db: " in told
    assert "Traceback" not in told
    assert [file.name for file in small_project.glob("*mlflow.db*")] == ["mlflow.db.lock"]
    assert not (small_project / "data").exists()


def test_a_database_on_a_full_disk(without_cells: Path, mount: Mount, tmp_path: Path):
    disk = mount(tmp_path / "disk", 10_000)
    command = ["run", "--env", "test", "--pipelines", "data_processing"]
    where = {"MLFLOW_TRACKING_URI": f"sqlite:///{disk}/mlflow.db"}
    assert run(without_cells, *command, environment=where) == 0, printed(without_cells)
    before = files_of(without_cells)
    fill(disk)
    assert run(without_cells, *command, environment=where) == 1
    told = printed(without_cells)
    assert f"Error: MLflow cannot be used at sqlite:///{disk}/mlflow.db: " in told
    assert "Free space on that disk" in told
    assert "Traceback" not in told
    assert files_of(without_cells) == before
