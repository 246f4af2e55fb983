from __future__ import annotations

import numpy as np
import pytest

from dwp_kedro.imaging.postprocessing import label_components, postprocess
from dwp_kedro.parameters import PostprocessingParameters


def scene() -> np.ndarray:
    """A shell of class 1 (26 voxels round 1 of background), a bar of 4, a lone voxel, and 2 voxels of class 2."""
    mask = np.zeros((12, 12, 12), dtype=np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    mask[2, 2, 2] = 0
    mask[6, 6, 2:6] = 1
    mask[9, 9, 9] = 1
    mask[9, 1:3, 1] = 2
    return mask


def processed(voxel_volume: float = 1.0, **settings: object) -> np.ndarray:
    return postprocess(scene(), 2, PostprocessingParameters.model_validate(settings), voxel_volume)


def sizes_of(mask: np.ndarray, value: int) -> list[int]:
    return sorted(label_components(mask == value)[1].tolist(), reverse=True)


def test_voxels_that_share_a_corner_are_one_component():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    components, sizes = label_components(mask)
    assert sizes.tolist() == [2, 1]
    assert components[0, 0, 0] == components[1, 1, 1] != components[3, 3, 3]


def test_nothing_is_done_by_default():
    before = scene()
    result = processed()
    assert np.array_equal(result, before)
    assert result is not before


def test_holes_are_filled():
    filled = processed(fill_holes=True)
    assert filled[2, 2, 2] == 1
    assert np.count_nonzero(filled != scene()) == 1


def test_a_hole_of_another_class_stays_that_class():
    mask = scene()
    mask[2, 2, 2] = 2
    result = postprocess(mask, 2, PostprocessingParameters(fill_holes=True), 1.0)
    assert np.array_equal(result, mask)


def test_background_that_reaches_the_outside_through_a_face_is_no_hole():
    mask = scene()
    mask[2, 2, 1] = 0
    assert postprocess(mask, 2, PostprocessingParameters(fill_holes=True), 1.0)[2, 2, 2] == 0


def test_the_largest_component_of_each_class_is_kept():
    result = processed(largest_component=True)
    assert (sizes_of(result, 1), sizes_of(result, 2)) == ([26], [2])


@pytest.mark.parametrize(
    ("least", "voxel", "left"),
    [(2, 1.0, [26, 4]), (4, 1.0, [26, 4]), (4.1, 1.0, [26]), (0.012, 0.003, [26, 4]), (100, 1.0, [])],
)
def test_components_smaller_than_the_least_volume_go(least: float, voxel: float, left: list[int]):
    assert sizes_of(processed(voxel, min_volume=least), 1) == left


def test_holes_count_towards_the_least_volume():
    assert sizes_of(processed(fill_holes=True, min_volume=27), 1) == [27]


def test_an_empty_mask_stays_empty():
    settings = PostprocessingParameters(fill_holes=True, largest_component=True, min_volume=5)
    assert not postprocess(np.zeros((4, 4, 4), np.uint8), 1, settings, 1.0).any()
