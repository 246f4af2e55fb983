from __future__ import annotations

import copy
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dwp_kedro.imaging.volume import (
    Volume,
    VolumeError,
    decode_volume,
    encode_volume,
    read_volume,
    write_volume,
)

AFFINE = np.array([[-1.0, 0.0, 0.0, 90.0], [0.0, -1.5, 0.3, 126.0], [0.0, 0.2, 4.0, -72.0], [0, 0, 0, 1.0]])


def numbers(shape=(4, 5, 6), dtype=np.float32) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, **header) -> Path:
    image = nib.Nifti1Image(array, affine)
    for key, value in header.items():
        image.header[key] = value
    image.to_filename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_round_trip_keeps_voxels_affine_and_units(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"scan{suffix}"
    write_volume(Volume.from_array(numbers(), AFFINE), path)
    volume = read_volume(path)
    assert np.array_equal(volume.array, numbers())
    assert np.allclose(volume.affine, AFFINE, atol=1e-5)
    image = nib.load(path)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    assert np.allclose(image.header.get_zooms(), volume.spacing, atol=1e-5)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (np.bool_, np.uint8),
        (np.uint8, np.uint8),
        (np.int16, np.int16),
        (np.int64, np.uint8),
        (np.float32, np.float32),
        (np.float64, np.float32),
    ],
)
def test_data_type_on_disk(tmp_path: Path, written: type, read: type) -> None:
    array = numbers(dtype=written)
    write_volume(Volume.from_array(array, AFFINE), tmp_path / "scan.nii.gz")
    assert nib.load(tmp_path / "scan.nii.gz").get_data_dtype() == read
    assert np.array_equal(read_volume(tmp_path / "scan.nii.gz").array, array)


@settings(deadline=None)
@given(hnp.arrays(np.int64, (2, 3, 2), elements=st.integers(-(2**31), 2**31 - 1)))
def test_integers_survive_their_smallest_type(array: np.ndarray) -> None:
    content = encode_volume(Volume.from_array(array, np.eye(4)), "label.nii")
    assert np.array_equal(decode_volume(content, "label.nii", label=True).array, array)


def test_same_volume_same_bytes() -> None:
    volume = Volume.from_array(numbers(), AFFINE)
    assert encode_volume(volume, "a.nii.gz") == encode_volume(volume, "b.nii.gz")


def test_scaled_integers_come_scaled_and_go_back_unscaled(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers(dtype=np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "scan.nii")
    expected = nib.load(tmp_path / "scan.nii").get_fdata()
    volume = read_volume(tmp_path / "scan.nii")
    assert np.allclose(volume.array, expected)
    write_volume(volume, tmp_path / "again.nii")
    assert np.allclose(read_volume(tmp_path / "again.nii").array, expected)


def test_properties_need_no_voxels(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", numbers(), np.diag([-2.0, -1.0, 3.0, 1.0]))
    path.write_bytes(path.read_bytes()[:380])
    volume = read_volume(path)
    assert (volume.shape, volume.spacing, volume.orientation) == ((4, 5, 6), (2.0, 1.0, 3.0), "LPS")


def test_an_opened_volume_can_be_copied(tmp_path: Path) -> None:
    volume = copy.deepcopy(read_volume(save(tmp_path / "scan.nii.gz", numbers())))
    assert np.array_equal(volume.array, numbers())


def test_one_channel_of_a_4d_file(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", numbers((4, 5, 6, 2)))
    volume = read_volume(f"{path}#1")
    assert volume.shape == (4, 5, 6)
    assert np.array_equal(volume.array, numbers((4, 5, 6, 2))[..., 1])
    with pytest.raises(VolumeError, match=r"scan\.nii\.gz#2: no such channel"):
        read_volume(f"{path}#2")


def test_4d_with_one_channel_is_3d(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii", numbers((4, 5, 6, 1))))
    assert volume.shape == volume.array.shape == (4, 5, 6)


def test_4d_where_4d_is_meant(tmp_path: Path) -> None:
    assert read_volume(save(tmp_path / "scan.nii", numbers((4, 5, 6, 2))), ndim=4).array.shape == (4, 5, 6, 2)


def test_nifti_2(tmp_path: Path) -> None:
    nib.Nifti2Image(numbers(), AFFINE).to_filename(tmp_path / "scan.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "scan.nii.gz").array, numbers())
    content = (tmp_path / "scan.nii.gz").read_bytes()
    assert np.array_equal(decode_volume(content, "scan.nii.gz").array, numbers())


def test_labels_stored_as_floats_become_integers(tmp_path: Path) -> None:
    label = read_volume(save(tmp_path / "seg.nii", numbers() % 5), label=True).array
    assert label.dtype == np.uint8
    assert np.array_equal(label, numbers() % 5)


# --- one clear error per bad file --------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    noise = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    save(path, noise)
    path.write_bytes(path.read_bytes()[:5000])


def write_rgb(path: Path) -> None:
    colour = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.Nifti1Image(colour, np.eye(4)).to_filename(path)


def write_singular(path: Path) -> None:
    image = nib.Nifti1Image(numbers(), np.eye(4))
    image.header["sform_code"] = 1
    image.header["srow_z"] = image.header["srow_y"]
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + numbers().tobytes()))


def write_zero_spacing(path: Path) -> None:
    header = nib.Nifti1Image(numbers(), np.eye(4)).header
    header["pixdim"][3] = 0
    header["vox_offset"] = 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + numbers().tobytes()))


def with_voxel(value: float) -> np.ndarray:
    array = numbers()
    array[1, 1, 1] = value
    return array


BAD_FILES = {
    "the file is empty": lambda path: path.write_bytes(b""),
    "cut short": cut_short,
    "not a readable NIfTI": lambda path: path.write_bytes(gzip.compress(b"a letter, not a scan" * 100)),
    "4D, of shape": lambda path: save(path, numbers((4, 5, 6, 2))),
    "2D, of shape": lambda path: save(path, numbers((4, 5))),
    "not numbers": write_rgb,
    "1 voxels are NaN": lambda path: save(path, with_voxel(np.nan)),
    "1 voxels are NaN or infinite": lambda path: save(path, with_voxel(-np.inf)),
    "singular": write_singular,
    "voxel size in the header is 0": write_zero_spacing,
}


@pytest.mark.parametrize("problem", BAD_FILES)
@pytest.mark.parametrize("from_bytes", [False, True])
def test_bad_file_is_named(tmp_path: Path, problem: str, from_bytes: bool) -> None:
    path = tmp_path / "subject_07.nii.gz"
    BAD_FILES[problem](path)
    with pytest.raises(VolumeError) as caught:  # noqa: PT012 - when it shows depends on the fault
        volume = decode_volume(path.read_bytes(), str(path)) if from_bytes else read_volume(path)
        _ = volume.array
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)
    assert ";" in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"nowhere\.nii: no such file; check the path"):
        read_volume(tmp_path / "nowhere.nii")


def test_uncompressed_file_cut_short(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", numbers())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(VolumeError, match=r"scan\.nii: .* cut short"):
        _ = read_volume(path).array


def test_label_map_must_hold_integers(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "seg.nii.gz", with_voxel(0.25)), label=True)
    with pytest.raises(VolumeError, match=r"seg\.nii\.gz: a label map must hold integers, found 0\.25"):
        _ = volume.array


def test_other_file_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"scan\.mha: .* \.nii or \.nii\.gz"):
        read_volume(tmp_path / "scan.mha")


def test_a_failing_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan.nii.gz"
    write_volume(Volume.from_array(numbers(), AFFINE), path)

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        write_volume(Volume.from_array(numbers() + 1, AFFINE), path)
    assert np.array_equal(read_volume(path).array, numbers())
    assert [file.name for file in tmp_path.iterdir()] == ["scan.nii.gz"]
