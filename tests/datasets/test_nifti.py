from __future__ import annotations

import base64
import inspect
import io
import uuid
from pathlib import Path
from typing import Any

import fsspec
import nibabel as nib
import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError, Version
from kedro_datasets.partitions import PartitionedDataset
from PIL import Image

from dwp_kedro.datasets.nifti import NiftiDataset
from dwp_kedro.imaging.volume import Volume, VolumeError

AFFINE = np.diag([-1.0, -1.0, 4.0, 1.0])
TYPE = "dwp_kedro.datasets.nifti.NiftiDataset"


def make_volume(value: int = 0) -> Volume:
    return Volume.from_array((np.arange(4 * 5 * 6).reshape(4, 5, 6) + value).astype(np.int16), AFFINE)


def assert_same(loaded: Volume, value: int = 0) -> None:
    assert np.array_equal(loaded.array, make_volume(value).array)
    assert np.allclose(loaded.affine, AFFINE)


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory:///{uuid.uuid4().hex}"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_round_trip(folder: str, suffix: str) -> None:
    dataset = NiftiDataset(filepath=f"{folder}/new/scan{suffix}")
    assert not dataset.exists()
    dataset.save(make_volume())
    assert dataset.exists()
    assert_same(dataset.load())
    dataset.save(make_volume(7))
    assert_same(dataset.load(), 7)


def test_local_files_are_read_lazily(tmp_path: Path) -> None:
    dataset = NiftiDataset(filepath=str(tmp_path / "scan.nii.gz"))
    dataset.save(Volume.from_array(np.random.default_rng(0).random((16, 16, 16)), AFFINE))
    content = (tmp_path / "scan.nii.gz").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(content[: len(content) // 2])
    volume = dataset.load()
    assert volume.shape == (16, 16, 16)
    with pytest.raises(VolumeError, match=r"scan\.nii\.gz: the file is cut short"):
        _ = volume.array


def test_versions(folder: str) -> None:
    path = f"{folder}/scan.nii.gz"
    NiftiDataset(filepath=path, version=Version(None, "2024-01-01T00.00.00.000Z")).save(make_volume(1))
    NiftiDataset(filepath=path, version=Version(None, "2024-01-02T00.00.00.000Z")).save(make_volume(2))
    assert_same(NiftiDataset(filepath=path, version=Version(None, None)).load(), 2)
    assert_same(NiftiDataset(filepath=path, version=Version("2024-01-01T00.00.00.000Z", None)).load(), 1)
    assert not NiftiDataset(filepath=path, version=Version("2023-01-01T00.00.00.000Z", None)).exists()
    with pytest.raises(DatasetError, match="must not exist"):
        NiftiDataset(filepath=path, version=Version(None, "2024-01-02T00.00.00.000Z")).save(make_volume())


def test_dataset_factory(folder: str) -> None:
    pattern = {"type": TYPE, "filepath": f"{folder}/{{cohort}}/{{subject}}.nii.gz", "label": True}
    catalog = DataCatalog.from_config({"{cohort}.{subject}.label": pattern})
    catalog["target.s01.label"].save(make_volume())
    again = DataCatalog.from_config({"{cohort}.{subject}.label": pattern})
    assert_same(again["target.s01.label"].load())
    assert again["target.s01.label"].load().array.dtype == np.uint8
    assert NiftiDataset(filepath=f"{folder}/target/s01.nii.gz").exists()


def test_partitions(tmp_path: Path) -> None:
    def partitions() -> PartitionedDataset:
        return PartitionedDataset(path=str(tmp_path), dataset={"type": TYPE}, filename_suffix=".nii.gz")

    partitions().save({"s01_0000": make_volume(1), "s02_0000": lambda: make_volume(2)})
    loaded = partitions().load()
    assert sorted(loaded) == ["s01_0000", "s02_0000"]
    assert_same(loaded["s02_0000"](), 2)


def test_preview_is_a_picture(folder: str) -> None:
    dataset = NiftiDataset(filepath=f"{folder}/scan.nii.gz")
    dataset.save(make_volume())
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview(), validate=True)))
    assert picture.format == "PNG"
    assert np.asarray(picture.convert("L")).std() > 10
    # Kedro-Viz tells pictures from tables by this name.
    annotation: Any = inspect.signature(dataset.preview).return_annotation
    assert getattr(annotation, "__name__", annotation) == "ImagePreview"


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "subject_07.nii.gz"
    nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.float32), AFFINE).to_filename(path)
    with pytest.raises(DatasetError, match=r"subject_07\.nii\.gz: 4D, of shape \(4, 5, 6, 2\), where 3D is meant"):
        NiftiDataset(filepath=str(path)).load()
    assert NiftiDataset(filepath=str(path), ndim=4).load().array.shape == (4, 5, 6, 2)


def test_a_failing_save_leaves_the_old_file_whole(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = NiftiDataset(filepath=f"{folder}/scan.nii.gz")
    dataset.save(make_volume())

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("connection lost")

    fs, root = fsspec.core.url_to_fs(folder)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        patch.setattr(type(fs), "mv", fail)
        with pytest.raises(DatasetError, match="connection lost"):
            dataset.save(make_volume(7))
    assert_same(dataset.load())
    assert [name.rsplit("/", 1)[-1] for name in fs.ls(root, detail=False)] == ["scan.nii.gz"]


def test_description_tells_the_file_and_its_kind(tmp_path: Path) -> None:
    description = str(NiftiDataset(filepath=str(tmp_path / "seg.nii.gz"), label=True))
    assert "seg.nii.gz" in description
    assert "label=True" in description
