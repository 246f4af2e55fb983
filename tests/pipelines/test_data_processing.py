from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.datasets import NiftiDataset, VolumesDataset
from dwp_kedro.imaging.volume import Volume, write_volume
from dwp_kedro.parameters import CohortParameters, GridParameters
from dwp_kedro.pipelines.data_processing.nodes import (
    collect_problems,
    describe_volumes,
    preprocess_cohort,
    read_cohort,
)

GRID = GridParameters(n_train=[1], n_splits=1, n_test=1)
# Names whose order is another with and without what follows them in a path.
SUBJECTS = ("a", "a-b", "a_0", "b")


def write_cohort(folder: Path, labelled: dict[str, tuple[slice, ...]] | None = None, seed: int = 0) -> None:
    for number, name in enumerate(SUBJECTS, start=seed):
        generator = np.random.default_rng(number)
        label = np.zeros((24, 24, 24), dtype=np.uint8)
        label[(labelled or {}).get(name, (slice(8, 16), slice(8, 16), slice(4 + number, 12 + number)))] = 1
        image = generator.random((24, 24, 24)).astype(np.float32) + label
        write_volume(Volume.from_array(image, np.eye(4)), folder / name / "image.nii.gz")
        write_volume(Volume.from_array(label, np.eye(4)), folder / name / "label.nii.gz")


def cohort_in(folder: Path, **changes: Any) -> CohortParameters:
    reader = {"layout": "subject_folders", "folder": folder, "channels": ["image*"], "label": "label*"}
    preprocessing = {"grid": [16, 16, 16], "foreground_threshold": None}
    given = {"name": "cases", "description": "", "reader": reader, "preprocessing": preprocessing}
    return CohortParameters.model_validate({**given, **changes})


def test_one_subject_at_a_time_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cohort(tmp_path / "raw")
    manifest, problems = read_cohort(cohort_in(tmp_path / "raw"))
    partitions, _ = preprocess_cohort(manifest, problems, cohort_in(tmp_path / "raw"))
    alive: list[weakref.ref[Any]] = []
    most = 0
    save = NiftiDataset.save

    def watching(dataset: NiftiDataset, volume: Volume) -> None:
        nonlocal most
        save(dataset, volume)
        alive.append(weakref.ref(volume))
        del volume
        gc.collect()
        most = max(most, sum(1 for reference in alive if reference() is not None))

    monkeypatch.setattr(NiftiDataset, "save", watching)
    VolumesDataset(path=str(tmp_path / "volumes")).save(partitions)
    assert len(alive) == 2 * len(SUBJECTS)
    assert most <= 3, "a subject's image and label, and what is just being saved"


def test_a_label_that_the_grid_loses_is_refused_with_its_subject(tmp_path: Path):
    write_cohort(tmp_path / "raw", {"a_0": (slice(0, 2),) * 3})
    cohort = cohort_in(tmp_path / "raw")  # the crop to 16 takes 4 voxels from every side
    manifest, problems = read_cohort(cohort)
    assert problems.empty
    partitions, preprocessed = preprocess_cohort(manifest, problems, cohort)
    volumes = VolumesDataset(path=str(tmp_path / "volumes"))
    volumes.save(partitions)
    with pytest.raises(
        CohortError, match=r"a_0.*nothing of foreground is left on the network's grid.*larger grid"
    ):
        describe_volumes(volumes.load(), preprocessed, manifest, cohort)
    kept = preprocessed[preprocessed["subject"] != "a_0"]
    described = describe_volumes(volumes.load(), kept, manifest, cohort)
    assert described["label_voxels"].tolist() == [8**3] * 3
    assert described["channels"].tolist() == [1] * 3


def test_a_source_network_that_cannot_fit_is_found_before_training(tmp_path: Path):
    write_cohort(tmp_path / "source", seed=4)
    write_cohort(tmp_path / "target")
    source = cohort_in(tmp_path / "source", labels={"core": [1], "rim": [2]})
    target = cohort_in(tmp_path / "target")
    source_manifest, source_problems = read_cohort(source)
    manifest, problems = read_cohort(target)
    given = {"source_problems": source_problems, "source_manifest": source_manifest, "source": source}
    table = collect_problems(problems, manifest, GRID, target, starts_from_source=True, **given)
    assert len(table) == 1
    assert "source has [1] channels, 2 classes; target has [1] channels, 1 classes" in table["problem"].item()
    assert collect_problems(problems, manifest, GRID, target, starts_from_source=False, **given).empty
