from __future__ import annotations

import base64
import inspect
import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError
from PIL import Image

from dwp_kedro.datasets import NiftiDataset, VolumesDataset
from dwp_kedro.imaging.volume import Volume, VolumeError


def make_volume(seed: int) -> Volume:
    values = np.random.default_rng(seed).integers(0, 200, (6, 7, 8))
    return Volume.from_array(values.astype(np.int16), np.diag([-1.0, -1.0, 4.0, 1.0]))


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "volumes") if request.param == "local" else f"memory:///{uuid.uuid4().hex}/volumes"


def test_round_trip_from_the_catalog(folder: str):
    pattern = {"type": "dwp_kedro.datasets.VolumesDataset", "path": f"{folder}/{{cohort}}"}
    catalog = DataCatalog.from_config({"{cohort}.volumes": pattern})
    assert not catalog.exists("target.volumes")
    catalog.save("target.volumes", {"s01/image_0000": make_volume(1), "s01/label": make_volume(2)})
    loaded = catalog.load("target.volumes")
    assert sorted(loaded) == ["s01/image_0000", "s01/label"]
    assert np.array_equal(loaded["s01/label"]().array, make_volume(2).array)
    assert NiftiDataset(filepath=f"{folder}/target/s01/label.nii.gz").exists()


def test_volumes_are_computed_one_at_a_time_in_order(tmp_path: Path):
    """Each is on disk before the next is made, and a subject's label comes after its images."""
    made: list[tuple[str, int]] = []

    def lazy(name: str) -> Callable[[], Volume]:
        def compute() -> Volume:
            made.append((name, len(list(tmp_path.rglob("*.nii.gz")))))
            return make_volume(len(made))

        return compute

    names = [f"{subject}/{what}" for subject in ("a", "a-b") for what in ("label", "image_0001", "image_0000")]
    VolumesDataset(path=tmp_path / "volumes").save({name: lazy(name) for name in names})
    assert made == [(name, index) for index, name in enumerate(sorted(names))]
    assert [name for name, _ in made if name.startswith("a/")] == ["a/image_0000", "a/image_0001", "a/label"]


def test_label_maps_must_be_integers(tmp_path: Path):
    volume = Volume.from_array(np.full((4, 4, 4), 0.5, np.float32), np.eye(4))
    VolumesDataset(path=tmp_path).save({"s01": volume})
    assert VolumesDataset(path=tmp_path).load()["s01"]().array.max() == 0.5
    with pytest.raises((VolumeError, DatasetError), match=r"s01\.nii\.gz"):
        _ = VolumesDataset(path=tmp_path, label=True).load()["s01"]().array


def test_a_save_removes_what_was_there(folder: str):
    dataset = VolumesDataset(path=folder, label=True)
    dataset.save({"s01": make_volume(1), "s02": make_volume(2)})
    dataset.save({"s03": make_volume(3)})
    assert list(dataset.load()) == ["s03"]


def test_a_save_that_fails_leaves_the_folder_as_it_was(tmp_path: Path):
    def fail() -> Volume:
        raise VolumeError("no such scan")

    dataset = VolumesDataset(path=tmp_path / "volumes")
    dataset.save({"s01": make_volume(1)})
    with pytest.raises(DatasetError, match="no such scan"):
        dataset.save({"s01": make_volume(2), "s02": fail})
    assert list(dataset.load()) == ["s01"]
    assert np.array_equal(dataset.load()["s01"]().array, make_volume(1).array)
    assert [folder.name for folder in tmp_path.iterdir()] == ["volumes"]


@pytest.mark.parametrize(
    ("names", "shown"),
    [(["s01/label", "s01/image_0001", "s01/image_0000"], "s01/image_0000"), (["s02", "s01"], "s01")],
)
def test_preview_is_that_of_the_first_image(folder: str, names: list[str], shown: str):
    dataset = VolumesDataset(path=folder)
    dataset.save({name: make_volume(index) for index, name in enumerate(names)})
    preview = dataset.preview()
    assert preview == NiftiDataset(filepath=f"{folder}/{shown}.nii.gz").preview()
    assert Image.open(io.BytesIO(base64.b64decode(preview, validate=True))).format == "PNG"
    # Kedro-Viz tells pictures from tables by this name.
    annotation: Any = inspect.signature(dataset.preview).return_annotation
    assert getattr(annotation, "__name__", annotation) == "ImagePreview"


def test_preview_of_no_volumes_says_so(folder: str):
    with pytest.raises(DatasetError, match="holds no volumes"):
        VolumesDataset(path=folder).preview()
