"""Memory of data_processing does not grow with the number of subjects."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dwp_kedro.datasets import VolumesDataset
from dwp_kedro.imaging.volume import Volume, write_volume
from dwp_kedro.parameters import CohortParameters
from dwp_kedro.pipelines.data_processing.nodes import describe_volumes, preprocess_cohort, read_cohort

PARAMETERS = """\
data_processing:
  source: &cohort
    name: source
    description: made up
    reader: {{ layout: subject_folders, folder: source, channels: [image.nii.gz], label: label.nii.gz }}
    preprocessing: {{ spacing: [1, 1, 1], grid: [{side}, {side}, {side}], foreground_threshold: null }}
  target:
    <<: *cohort
    name: target
    reader: {{ layout: subject_folders, folder: target, channels: [image.nii.gz], label: label.nii.gz }}
grid: {{ n_train: [2], n_splits: 1, n_test: 2 }}
"""


def write_subject(folder: Path, seed: int, side: int) -> None:
    """A noisy head with a lesion somewhere in it, in voxels of 1.1 mm."""
    generator = np.random.default_rng(seed)
    position = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij"))
    distance = np.linalg.norm(position - generator.uniform(-0.4, 0.4, (3, 1, 1, 1)), axis=0)
    head, lesion = np.linalg.norm(position, axis=0) < 0.9, distance < 0.3
    image = 400 * head + 300 * lesion + generator.integers(0, 100, lesion.shape)
    affine = np.diag([1.1, 1.1, 1.1, 1.0])
    write_volume(Volume.from_array(image.astype(np.int16), affine), folder / f"case_{seed}" / "image.nii.gz")
    write_volume(Volume.from_array(lesion, affine), folder / f"case_{seed}" / "label.nii.gz")


def traced_peak(folder: Path, n_subjects: int, side: int) -> int:
    """Bytes that Python and NumPy hold at most while a cohort is read, preprocessed and described."""
    for seed in range(n_subjects):
        write_subject(folder / "raw", seed, side)
    reader = {"layout": "subject_folders", "folder": folder / "raw", "channels": ["image*"], "label": "label*"}
    preprocessing = {"spacing": [1, 1, 1], "grid": [side] * 3, "foreground_threshold": None}
    given = {"name": "soak", "description": "", "reader": reader, "preprocessing": preprocessing}
    cohort = CohortParameters.model_validate(given)
    volumes = VolumesDataset(path=str(folder / "volumes"))
    tracemalloc.start()
    manifest, problems = read_cohort(cohort)
    partitions, preprocessed = preprocess_cohort(manifest, problems, cohort)
    volumes.save(partitions)
    described = describe_volumes(volumes.load(), preprocessed, manifest, cohort)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(described) == n_subjects
    return peak


def test_memory_does_not_grow_with_a_small_cohort(tmp_path: Path) -> None:
    side = 32
    traced_peak(tmp_path / "first", 1, side)  # imports
    few, many = (traced_peak(tmp_path / str(n), n, side) for n in (4, 16))
    one_image = 4 * side**3
    assert many - few < 12 * one_image / 4, "rows of tables, but no label map of the twelve more subjects"


def run_peak(project: Path) -> float:
    """MiB of main memory that ``kedro run --env soak --pipelines data_processing`` takes at most."""
    command = [sys.executable, "-m", "kedro", "run", "--env", "soak", "--pipelines", "data_processing"]
    with (project / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=project, stdout=log, stderr=log)
    peak = 0
    while process.poll() is None:
        # The highest so far, which the kernel keeps; of a process that has ended there is none.
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status))])
        time.sleep(0.1)
    assert process.returncode == 0, (project / "log.txt").read_text()[-3000:]
    return peak / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads peak memory as Linux tells it")
def test_two_hundred_subjects_take_the_memory_of_fifty(
    unrun_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side, raw = 96, unrun_project / "data/01_raw"
    environment = unrun_project / "conf/soak"
    environment.mkdir()
    (environment / "globals.yml").write_text("environment: soak\n")
    (environment / "parameters.yml").write_text(PARAMETERS.format(side=side))
    for seed in range(1000, 1003):
        write_subject(raw / "source", seed, side)
    peaks, seconds, written = {}, {}, 0
    for n_subjects in (50, 200):
        for seed in range(written, n_subjects):
            write_subject(raw / "target", seed, side)
        written, started = n_subjects, time.monotonic()
        peaks[n_subjects] = run_peak(unrun_project)
        seconds[n_subjects] = time.monotonic() - started
        subjects = pd.read_csv(unrun_project / "data/03_primary/soak/target_subjects.csv")
        assert len(subjects) == n_subjects
    with capsys.disabled():
        told = ", ".join(f"{n}: {peaks[n]:.0f} MiB at most, {seconds[n]:.0f} s" for n in peaks)
        print(f"\nsubjects of {side}³ through data_processing: {told}")
    # A volume on the network's grid is 3.4 MiB. What does grow is the contact sheet, up to 240 subjects.
    assert peaks[200] - peaks[50] < 100
