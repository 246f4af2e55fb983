from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine, voxel_sizes
from scipy.spatial.transform import Rotation

from dwp_kedro.imaging.geometry import between_grids, inside_grid, largest_displacement, with_spacing

sizes = st.tuples(*[st.floats(0.2, 9)] * 3)
angles = st.tuples(*[st.floats(-180, 180)] * 3)
origins = st.tuples(*[st.floats(-200, 200)] * 3)


def make_affine(spacing, angle, origin) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angle, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


@given(sizes, sizes, angles, origins)
def test_new_spacing_keeps_directions_and_origin(old, new, angle, origin) -> None:
    affine = make_affine(old, angle, origin)
    changed = with_spacing(affine, new)
    assert np.allclose(voxel_sizes(changed), new)
    assert np.allclose(changed[:3, :3] / new, affine[:3, :3] / old)
    assert np.allclose(changed[:, 3], affine[:, 3])


@given(sizes, sizes, angles, origins)
def test_new_spacing_can_be_taken_back(old, new, angle, origin) -> None:
    affine = make_affine(old, angle, origin)
    assert np.allclose(with_spacing(with_spacing(affine, new), old), affine)


@given(sizes, angles, origins, angles, origins)
def test_between_grids_meets_at_the_same_place_in_the_scanner(size, angle, origin, angle_2, origin_2) -> None:
    source, target = make_affine(size, angle, origin), make_affine((1, 2, 3), angle_2, origin_2)
    index = np.array([3.0, -1.5, 7.0])
    in_source = apply_affine(between_grids(source, target), index)
    assert np.allclose(apply_affine(source, in_source), apply_affine(target, index), atol=1e-6)


def test_displacement_of_a_shift_is_its_length_in_the_smallest_voxel() -> None:
    affine = np.diag([2.0, 1.0, 5.0, 1.0])
    moved = affine.copy()
    moved[:3, 3] = [3.0, 4.0, 0.0]
    assert largest_displacement((10, 10, 10), affine, moved) == pytest.approx(5.0)


def test_displacement_of_another_spacing_is_largest_at_the_far_corner() -> None:
    affine, other = np.eye(4), np.diag([1.0, 1.0, 1.5, 1.0])
    assert largest_displacement((10, 10, 21), affine, other) == pytest.approx(10.0)


def test_inside_counts_whole_edge_voxels() -> None:
    # Target voxels of a quarter: those with centres at -0.375 … 1.375 of a grid of two voxels are inside.
    to_source = np.diag([0.25, 1.0, 1.0, 1.0])
    to_source[0, 3] = -0.875
    inside = inside_grid((2, 1, 1), (12, 1, 1), to_source).ravel()
    assert inside.tolist() == [False] * 2 + [True] * 8 + [False] * 2
