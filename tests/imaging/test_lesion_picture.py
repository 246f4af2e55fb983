from __future__ import annotations

import numpy as np

from dwp_kedro.imaging.lesion_picture import lesion_picture
from dwp_kedro.imaging.volume import Volume

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])


def pictures(mask: np.ndarray) -> list[np.ndarray]:
    """The pixels of the three planes, of a scan whose voxels hold their canonical indices: 10000 x + 100 y + z."""
    x, y, z = np.indices(mask.shape)
    array = 10000.0 * (mask.shape[0] - 1 - x) + 100 * (mask.shape[1] - 1 - y) + z
    figure = lesion_picture(Volume.from_array(array, LPS), Volume.from_array(mask, LPS))
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_all_planes_go_through_the_largest_lesion():
    mask = np.zeros((20, 24, 16), dtype=np.uint8)
    mask[2:5, 3:6, 7:10] = 1
    mask[3, 4, 7:10] = 1
    mask[15, 15:23, 2] = 1
    sagittal, coronal, axial = pictures(mask)
    # Of several slices with as many voxels, the first in canonical order.
    assert set(np.unique(sagittal // 10000)) == {20 - 1 - 4}
    assert set(np.unique(coronal % 10000 // 100)) == {24 - 1 - 5}
    assert set(np.unique(axial % 100)) == {7}


def test_an_empty_mask_shows_the_middle():
    sagittal, coronal, axial = pictures(np.zeros((20, 24, 16), dtype=np.uint8))
    assert set(np.unique(sagittal // 10000)) == {10}
    assert set(np.unique(coronal % 10000 // 100)) == {12}
    assert set(np.unique(axial % 100)) == {8}
