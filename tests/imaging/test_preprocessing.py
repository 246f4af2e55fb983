from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scans import centre_of_mass, make_affine, make_blob, make_cohort, signed_permutation
from nibabel.affines import apply_affine

from dwp_kedro.imaging.preprocessing import (
    check_same_grid,
    declared_affine,
    map_labels,
    preprocess_subject,
    to_own_grid,
)
from dwp_kedro.imaging.volume import Volume, VolumeError, read_volume


def test_own_grid_is_background_outside_the_networks_grid() -> None:
    probability = np.stack([np.zeros((16, 16, 16)), np.ones((16, 16, 16))]).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = 4
    own = to_own_grid(probability, affine, (24, 24, 24), np.eye(4))
    expected = np.zeros((24, 24, 24))
    expected[4:20, 4:20, 4:20] = 1
    assert np.array_equal(own, expected)


def test_own_grid_interpolates_probabilities_not_labels() -> None:
    # Between voxels of 0.9 and 0.3, the foreground ends where its probability is 0.5: two thirds of the way.
    foreground = np.repeat([0.9, 0.3], 8).reshape(16, 1, 1).astype(np.float32)
    own_affine = np.diag([0.1, 1.0, 1.0, 1.0])
    own = to_own_grid(np.stack([1 - foreground, foreground]), np.eye(4), (150, 1, 1), own_affine)
    assert np.flatnonzero(own).max() == 76


def test_declared_spacing_replaces_the_headers_along_the_files_own_axes() -> None:
    slices_first = make_affine(signed_permutation((2, 0, 1), (1, -1, -1)), (1, 1, 1))
    image, label = make_blob((20, 32, 24), slices_first, np.array([-15.0, -11.0, 10.0]))
    assert image.orientation == "SLP"
    cohort = make_cohort(declared=(5.0, 0.5, 0.8), grid=(32, 24, 24))
    (channel,), mask = preprocess_subject([image], label, cohort)
    assert mask is not None
    assert channel.spacing == pytest.approx((0.5, 0.8, 5.0))
    own_affine = declared_affine(image, cohort.spacing)
    probability = np.stack([mask.array == 0, mask.array == 1]).astype(np.float32)
    assert np.array_equal(to_own_grid(probability, mask.affine, image.shape, own_affine), label.array)


@pytest.mark.parametrize("spacing", ["header", "unknown"])
def test_without_three_numbers_the_affine_stays(spacing: str) -> None:
    volume = Volume.from_array(np.zeros((2, 3, 4)), np.diag([1.0, 2.0, 3.0, 1.0]))
    assert np.array_equal(declared_affine(volume, spacing), volume.affine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("above_zero", [0, 0, 1, 1, 1]),
        (2, [0, 0, 0, 1, 0]),
        ([1, 4], [0, 0, 1, 0, 1]),
        ({"whole": [2], "core": [1, 4]}, [0, 0, 2, 1, 2]),
    ],
)
def test_label_mapping(labels: Any, expected: list[int]) -> None:
    mapped = map_labels(np.array([-1, 0, 1, 2, 4], dtype=np.int16), labels)
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == expected


# --- intensities -------------------------------------------------------------------------------------------


def test_normalisation_over_the_foreground_only() -> None:
    array = np.zeros((16, 16, 16), dtype=np.int16)
    array[4:8] = np.random.default_rng(0).integers(1, 900, (4, 16, 16))
    (channel,), label = preprocess_subject(
        [Volume.from_array(array, np.eye(4))], None, make_cohort(grid=(16, 16, 16))
    )
    assert label is None
    inside = array[array > 0].astype(float)
    expected = np.where(array > 0, (array - inside.mean()) / inside.std(), 0)
    assert channel.array.dtype == np.float32
    assert np.allclose(channel.array, expected, atol=1e-5)


def test_without_threshold_all_voxels_count_and_padding_is_background() -> None:
    array = np.random.default_rng(0).normal(-500, 3, (8, 8, 8))
    image = Volume.from_array(array, np.eye(4))
    cohort = make_cohort(foreground_threshold=None, grid=(16, 16, 16))
    (channel,), _ = preprocess_subject([image], None, cohort)
    assert np.allclose(channel.array[4:12, 4:12, 4:12], (array - array.mean()) / array.std(), atol=1e-4)
    assert np.count_nonzero(channel.array) == 8**3


def test_every_channel_has_its_own_scale() -> None:
    values = np.random.default_rng(0).uniform(1, 9, (16, 16, 16))
    images = [Volume.from_array(values * scale, np.eye(4)) for scale in (1.0, 3000.0)]
    (first, second), _ = preprocess_subject(images, None, make_cohort(grid=(16, 16, 16)))
    assert np.allclose(first.array, second.array, atol=1e-4)


def test_crop_takes_the_foreground_of_all_channels() -> None:
    arrays = np.zeros((2, 40, 40, 40))
    arrays[0, 4:10, 10:20, 10:30] = np.random.default_rng(0).uniform(1, 2, (6, 10, 20))
    arrays[1, 8:20, 12:26, 14:30] = np.random.default_rng(1).uniform(1, 2, (12, 14, 16))
    cohort = make_cohort(crop_foreground=True, fit="resample", grid=(16, 16, 16))
    (first, _), _ = preprocess_subject([Volume.from_array(array, np.eye(4)) for array in arrays], None, cohort)
    assert first.spacing == pytest.approx((16 / 16, 16 / 16, 20 / 16))
    corner = apply_affine(first.affine, (-0.5, -0.5, -0.5))
    assert np.allclose(corner, (4 - 0.5, 10 - 0.5, 10 - 0.5))


def test_stripes_finer_than_the_new_grid_do_not_turn_into_coarse_ones() -> None:
    ramp = np.linspace(10, 20, 96)[:, None, None] * np.ones((1, 16, 16))
    stripes = 20 * (np.arange(96) % 5 == 0)[:, None, None]
    cohort = make_cohort(fit="resample", grid=(16, 16, 16))
    (channel,), _ = preprocess_subject([Volume.from_array(ramp + stripes, np.eye(4))], None, cohort)
    line = channel.array[1:-1, 8, 8]
    assert np.all(np.diff(line) > 0)


def test_a_window_clips_before_anything_is_averaged() -> None:
    random = np.random.default_rng(0)
    array = np.full((16, 16, 16), -1000.0)
    array[4:12, 4:12, 4:12] = random.uniform(-150, 250, (8, 8, 8))
    array[6, 6, 6] = 3000  # metal
    image = Volume.from_array(array.astype(np.int16), np.eye(4))
    ct = {"window": (-175, 250), "foreground_threshold": -500, "grid": None, "crop_foreground": True}
    (channel,), _ = preprocess_subject([image], None, make_cohort(**ct))
    body = np.clip(array[4:12, 4:12, 4:12].astype(np.int16), -175, 250).astype(float)
    assert channel.shape == (8, 8, 8), "the air is cut off"
    assert np.allclose(channel.array, (body - body.mean()) / body.std(), atol=1e-5)
    # Interpolated, a clipped piece of metal is as bright as the window's end at most, and so is what is beside it.
    (coarse,), _ = preprocess_subject([image], None, make_cohort(**ct, spacing=(2.0, 2.0, 2.0)))
    plain = np.where(array > 250, 250, array)
    (expected,), _ = preprocess_subject(
        [Volume.from_array(plain.astype(np.int16), np.eye(4))], None, make_cohort(**ct, spacing=(2.0, 2.0, 2.0))
    )
    assert np.allclose(coarse.array, expected.array, atol=1e-5)


def test_air_counts_where_all_voxels_are_foreground() -> None:
    array = np.full((16, 16, 16), -1000.0)
    array[4:12] = np.random.default_rng(0).uniform(-150, 200, (8, 16, 16))
    cohort = make_cohort(window=(-175, 250), foreground_threshold=None, grid=None)
    (channel,), _ = preprocess_subject([Volume.from_array(array, np.eye(4))], None, cohort)
    clipped = array.clip(-175, 250)
    assert np.allclose(channel.array, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)


# --- one clear error per bad subject -----------------------------------------------------------------------


def named(array: np.ndarray, affine: np.ndarray, name: str) -> Volume:
    return Volume.from_array(array, affine, source=name)


def test_images_and_labels_on_different_grids() -> None:
    image = named(np.ones((16, 16, 16)), np.eye(4), "scan.nii.gz")
    with pytest.raises(VolumeError, match=r"seg\.nii\.gz: its grid is \(16, 16, 8\), that of scan\.nii\.gz"):
        check_same_grid([image, named(np.ones((16, 16, 8)), np.eye(4), "seg.nii.gz")])
    moved = np.eye(4)
    moved[0, 3] = 2
    with pytest.raises(VolumeError, match=r"seg\.nii\.gz: lies up to 2 voxels away from scan\.nii\.gz"):
        preprocess_subject([image], named(np.ones((16, 16, 16)), moved, "seg.nii.gz"), make_cohort())
    rounded = np.eye(4)
    rounded[0, 3] = 0.05
    check_same_grid([image, named(np.ones((16, 16, 16)), rounded, "seg.nii.gz")])


@pytest.mark.parametrize("value", [3.0, 1e-8])
def test_constant_image(value: float) -> None:
    image = named(np.full((20, 20, 20), value), np.eye(4), "flat.nii")
    with pytest.raises(VolumeError, match=r"flat\.nii: the image is constant"):
        preprocess_subject([image], None, make_cohort(spacing=(1, 1, 2.5), fit="resample"))


def test_nothing_above_the_threshold() -> None:
    image = named(-np.ones((20, 20, 20)), np.eye(4), "dark.nii")
    with pytest.raises(VolumeError, match=r"dark\.nii: no voxel is above 0"):
        preprocess_subject([image], None, make_cohort(crop_foreground=True))


def test_foreground_outside_the_grid() -> None:
    array = np.zeros((64, 16, 16))
    array[:4] = np.arange(4)[:, None, None] + 1
    image = named(array, np.eye(4), "aside.nii")
    with pytest.raises(VolumeError, match=r"aside\.nii: no foreground is on the network's grid"):
        preprocess_subject([image], None, make_cohort(grid=(16, 16, 16)))


# --- real scans --------------------------------------------------------------------------------------------

HIPPOCAMPUS = "Task04_Hippocampus/{}/hippocampus_366.nii.gz"
LGG = "tcga_lgg/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{}.nii.gz"
REAL = {
    "hippocampus": (
        HIPPOCAMPUS.format("imagesTr"),
        HIPPOCAMPUS.format("labelsTr"),
        make_cohort(labels=[1], grid=(48, 64, 48), foreground_threshold=None),
    ),
    "lgg": (
        LGG.format("flair"),
        LGG.format("seg"),
        make_cohort(declared=(1.0, 1.0, 5.0), fit="resample", grid=(64, 64, 32)),
    ),
    "ms": (
        "ms_ljubljana/patient07/patient07_flair.nii.gz",
        "ms_ljubljana/patient07/patient07_seg.nii.gz",
        make_cohort(crop_foreground=True, grid=(152, 184, 144)),
    ),
    "brats": (
        "brats2021/BraTS2021_01476/BraTS2021_01476_t2.nii.gz",
        "brats2021/BraTS2021_01476/BraTS2021_01476_seg.nii.gz",
        make_cohort(grid=(152, 184, 144)),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_scans_there_and_back(shared_data: Path, name: str) -> None:
    image_path, label_path, cohort = REAL[name]
    image, label = read_volume(shared_data / image_path), read_volume(shared_data / label_path, label=True)
    (channel,), mask = preprocess_subject([image], label, cohort)
    assert mask is not None
    own_affine = declared_affine(image, cohort.spacing)
    truth = map_labels(label.array, cohort.labels)
    distance = centre_of_mass(truth, own_affine) - centre_of_mass(mask.array, mask.affine)
    assert np.linalg.norm(distance) < 0.5 * max(mask.spacing)
    probability = np.stack([mask.array == 0, mask.array == 1]).astype(np.float32)
    own = to_own_grid(probability, mask.affine, image.shape, own_affine)
    dice = 2 * np.sum((own == 1) & (truth == 1)) / (np.sum(own) + np.sum(truth))
    assert dice > (0.9 if cohort.preprocessing.fit == "resample" else 0.99)
    foreground = channel.array[channel.array != 0]
    assert (foreground.mean(), foreground.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
