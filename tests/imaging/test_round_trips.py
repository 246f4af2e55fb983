"""Where things lie after preprocessing, and after the way back, in scans of any storage order.

How far a label's centre may move along an axis of the grids, which are parallel. A voxel of the network's
grid, spacing n, takes the label at most o/2 away, o the scan's own spacing; resampled twice, by way of spacing m,
at most e = (o + m)/2. So where the truth is the interval [−r, r], the network's voxels of it begin in
[−r − e, −r + n + e) and end in (r − n − e, r + e]: their middle is at most n/2 + e off. On the way back, the
border lies less than n further out than the outermost voxel, and the own voxels inside it end less than o before
it: (n + o)/2 more. A ball is a stack of such intervals, nested, with the same middle; so both bounds,
(n + o + m)/2 and n + o + m/2, hold for its centre.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from made_scans import (
    affines,
    centre_of_mass,
    make_affine,
    make_blob,
    make_cohort,
    orientations,
    scanner_grid,
    shapes,
    spacings,
)
from nibabel.affines import apply_affine, voxel_sizes

from dwp_kedro.imaging.preprocessing import preprocess_subject, to_own_grid
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import CohortParameters

PATHS = {
    "pad_crop": {"foreground_threshold": None},
    "spacing": {"foreground_threshold": None, "spacing": (2.0, 1.7, 2.5)},
    "crop": {"foreground_threshold": 50.0, "crop_foreground": True},
    "resample": {"foreground_threshold": None, "fit": "resample", "grid": (24, 40, 16)},
    "all": {
        "foreground_threshold": 1.0,
        "crop_foreground": True,
        "spacing": (2.0, 3.0, 2.5),
        "fit": "resample",
        "grid": (24, 16, 32),
    },
}
LATTICE_KEPT = {"pad_crop", "crop"}


def spacings_along(mask: Volume, scan: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Spacing of the network's grid along its axes, and of the scan along the same, mm."""
    matrix = np.abs(directions(mask.affine).T @ directions(scan.affine))
    assert np.allclose(matrix, matrix.round(), atol=1e-4), "the grids are parallel"
    return np.array(mask.spacing), matrix @ scan.spacing


def directions(affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] / voxel_sizes(affine)


def along_axes(mask: Volume, displacement: np.ndarray) -> np.ndarray:
    """A displacement in the scanner, along the axes of a grid."""
    return directions(mask.affine).T @ displacement


def between(cohort: CohortParameters) -> np.ndarray:
    """Spacing by way of which labels are resampled twice; 0 where they are resampled once."""
    parameters = cohort.preprocessing
    twice = parameters.spacing is not None and parameters.fit == "resample"
    return np.array(parameters.spacing) if twice else np.zeros(3)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=10, deadline=None)
@given(shape=shapes, affine=affines, offset=st.tuples(*[st.floats(-1.5, 1.5)] * 3))
def test_a_blob_stays_where_it_is_in_the_scanner(path: str, shape: Any, affine: Any, offset: Any) -> None:
    place = apply_affine(affine, (np.array(shape) - 1) / 2 + offset)
    image, label = make_blob(shape, affine, place)
    cohort = make_cohort(**PATHS[path])
    (channel,), mask = preprocess_subject([image], label, cohort)
    assert mask is not None
    assert channel.shape == mask.shape == cohort.preprocessing.grid
    assert channel.orientation == "RAS"
    assert np.array_equal(channel.affine, mask.affine)
    # What is above the mean is the middle of the blob, whose cut-off is the same on all sides.
    found = centre_of_mass(np.maximum(channel.array, 0), channel.affine)
    assert np.linalg.norm(found - place) < 0.1 * max(channel.spacing)
    assume(mask.array.any())
    net, own = spacings_along(mask, image)
    shift = along_axes(mask, centre_of_mass(mask.array, mask.affine) - place)
    assert (np.abs(shift) <= (net + own + between(cohort)) / 2 + 1e-3).all()


@settings(max_examples=30, deadline=None)
@given(
    label=hnp.arrays(np.uint8, st.tuples(*[st.integers(2, 16)] * 3), elements=st.integers(0, 2)),
    axes=orientations,
    spacing=spacings,
    tilt=st.tuples(*[st.floats(-30, 30)] * 3),
)
def test_a_reoriented_mask_comes_back_voxel_exact(label: np.ndarray, axes: Any, spacing: Any, tilt: Any) -> None:
    affine = make_affine(axes, spacing, (10, -20, 30), tilt)
    cohort = make_cohort(labels={"one": [1], "two": [2]}, foreground_threshold=None, grid=(16, 16, 24))
    image = Volume.from_array(np.arange(label.size, dtype=np.float32).reshape(label.shape), affine)
    _, mask = preprocess_subject([image], Volume.from_array(label, affine), cohort)
    assert mask is not None
    assert np.array_equal(
        np.bincount(mask.array.ravel(), minlength=3)[1:], [np.sum(label == 1), np.sum(label == 2)]
    )
    probability = np.stack([mask.array == value for value in range(3)]).astype(np.float32)
    own = to_own_grid(probability, mask.affine, label.shape, affine)
    assert own.dtype == np.uint8
    assert np.array_equal(own, label)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=10, deadline=None)
@given(shape=shapes, affine=affines)
def test_a_ball_comes_back_to_its_own_grid(path: str, shape: Any, affine: Any) -> None:
    place = apply_affine(affine, (np.array(shape) - 1) / 2)
    image, label = make_blob(shape, affine, place)
    cohort = make_cohort(**PATHS[path])
    _, mask = preprocess_subject([image], label, cohort)
    assert mask is not None
    probability = np.stack([mask.array == 0, mask.array == 1]).astype(np.float32)
    own = to_own_grid(probability, mask.affine, shape, affine)
    assert own.shape == shape
    if path in LATTICE_KEPT:
        assert np.array_equal(own, label.array)
        return
    assume(own.any())
    net, own_spacing = spacings_along(mask, image)
    shift = along_axes(mask, centre_of_mass(own, affine) - place)
    assert (np.abs(shift) <= net + own_spacing + between(cohort) / 2 + 1e-3).all()


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=10, deadline=None)
@given(shape=shapes, affine=affines, towards=st.tuples(*[st.integers(-3, 3)] * 3).filter(any))
def test_a_half_space_comes_back_voxel_exact(path: str, shape: Any, affine: Any, towards: Any) -> None:
    """Linear interpolation keeps a linear probability, so every voxel's side is known."""
    place = apply_affine(affine, (np.array(shape) - 1) / 2 + 0.3)
    image, _ = make_blob(shape, affine, place)
    (channel,), _ = preprocess_subject([image], None, make_cohort(**PATHS[path]))
    normal = np.array(towards) / np.linalg.norm(towards)
    above = (scanner_grid(channel.shape, channel.affine) - place) @ normal / 1000  # of a metre
    probability = np.stack([0.5 - above, 0.5 + above]).astype(np.float32)
    own = to_own_grid(probability, channel.affine, shape, affine)
    index = apply_affine(np.linalg.solve(channel.affine, affine), np.stack(np.indices(shape), axis=-1))
    last = np.array(channel.shape) - 1
    outside = ((index < -0.501) | (index > last + 0.501)).any(-1)
    assert not own[outside].any()
    distance = (scanner_grid(shape, affine) - place) @ normal
    # Beyond the outermost centres nothing is linear; on the plane itself rounding decides.
    clear = ((index >= 0) & (index <= last)).all(-1) & (np.abs(distance) > 0.01)
    assert clear.any()
    assert np.array_equal(own[clear] == 1, distance[clear] > 0)


@pytest.mark.parametrize("path", ["pad_crop", "spacing", "resample", "all"])  # not crop, which pads within
@settings(max_examples=10, deadline=None)
@given(shape=shapes, affine=affines, towards=st.tuples(*[st.integers(-3, 3)] * 3).filter(any))
def test_labels_are_those_of_the_nearest_voxel(path: str, shape: Any, affine: Any, towards: Any) -> None:
    """All over the grid, not in its middle alone: of a half-space, by no more than e along each axis."""
    place = apply_affine(affine, (np.array(shape) - 1) / 2 + 0.3)
    normal = np.array(towards) / np.linalg.norm(towards)
    image, _ = make_blob(shape, affine, place)
    label = Volume.from_array((scanner_grid(shape, affine) - place) @ normal > 0, affine)
    cohort = make_cohort(**PATHS[path])
    _, mask = preprocess_subject([image], label, cohort)
    assert mask is not None
    _, own = spacings_along(mask, image)
    furthest = np.abs(along_axes(mask, normal)) @ (own + between(cohort)) / 2
    distance = (scanner_grid(mask.shape, mask.affine) - place) @ normal
    index = apply_affine(np.linalg.solve(affine, mask.affine), np.stack(np.indices(mask.shape), axis=-1))
    in_scan = ((index >= 0) & (index <= np.array(shape) - 1)).all(-1)
    clear = in_scan & (np.abs(distance) > furthest + 0.01)
    assert clear.any()
    assert np.array_equal(mask.array[clear] == 1, distance[clear] > 0)


@settings(max_examples=10, deadline=None)
@given(shape=shapes, affine=affines)
def test_a_symmetric_label_stays_symmetric(shape: Any, affine: Any) -> None:
    """Labels are not drawn to one side, which half a voxel of difference in what a grid means would do."""
    # Of 32 voxels, every second or third centre of the new grid lies just between two of them.
    assume(32 not in shape)
    centred = [np.arange(side) - (side - 1) / 2 for side in shape]
    i, j, k = np.meshgrid(*(np.square(index / 9) for index in centred), indexing="ij")
    image, _ = make_blob(shape, affine, apply_affine(affine, (np.array(shape) - 1) / 2))
    label = Volume.from_array((i + j + k < 1).astype(np.uint8), affine)
    _, mask = preprocess_subject([image], label, make_cohort(**PATHS["resample"]))
    assert mask is not None
    assert mask.array.any()
    for axis in range(3):
        assert np.array_equal(mask.array, np.flip(mask.array, axis))


@settings(max_examples=10, deadline=None)
@given(shape=shapes, affine=affines, spacing=st.one_of(st.none(), spacings))
def test_without_a_grid_volumes_keep_their_size_and_come_back(shape: Any, affine: Any, spacing: Any) -> None:
    place = apply_affine(affine, (np.array(shape) - 1) / 2)
    image, label = make_blob(shape, affine, place)
    cohort = make_cohort(foreground_threshold=None, grid=None, spacing=spacing)
    (channel,), mask = preprocess_subject([image], label, cohort)
    assert mask is not None
    # From the first voxel's centre to the last one's, which lies on the new lattice's nearest point.
    extent = (np.array(channel.shape) - 1) * channel.spacing
    own = (np.array(shape) - 1) * voxel_sizes(affine)
    assert np.allclose(np.sort(extent), np.sort(own), atol=0.501 * max(channel.spacing))
    probability = np.stack([mask.array == 0, mask.array == 1]).astype(np.float32)
    back = to_own_grid(probability, mask.affine, shape, affine)
    if spacing is None:
        assert np.array_equal(back, label.array)
    else:
        net, own_spacing = spacings_along(mask, image)
        shift = along_axes(mask, centre_of_mass(back, affine) - place)
        assert (np.abs(shift) <= net + own_spacing + 1e-3).all()
