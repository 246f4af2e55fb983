"""Components of a mask, and what may be done to a mask after a network."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dwp_kedro.parameters import PostprocessingParameters

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""26-connectivity: voxels that share a face, an edge or a corner belong together."""


def label_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the components of a mask (x, y, z), bool, by 26-connectivity.

    Returns:
        Integers (x, y, z), 0 in the background, and the voxels of component 1, 2, ….
    """
    components, _ = ndimage.label(mask, structure=_TOUCHING)
    return components, np.bincount(components.ravel())[1:]


def postprocess(
    mask: np.ndarray, n_classes: int, parameters: PostprocessingParameters, voxel_volume: float
) -> np.ndarray:
    """Fill holes, keep the largest component, take out small ones; each class by itself.

    A hole is background that is not connected to the outside by faces, as suits components that hang together by
    corners. A hole's voxels of other classes stay what they are.

    Args:
        mask: (x, y, z) uint8, 0 background, 1 to ``n_classes``.
        n_classes: foreground classes.
        parameters: what to do.
        voxel_volume: volume of a voxel in the unit of ``min_volume``.

    Returns:
        A new mask of the same shape and type.
    """
    result = mask.copy()
    for value in range(1, n_classes + 1):
        if parameters.fill_holes:
            result[ndimage.binary_fill_holes(result == value) & (result == 0)] = value
        if not parameters.largest_component and parameters.min_volume == 0:
            continue
        components, sizes = label_components(result == value)
        # A hair of tolerance: a component of just the least volume stays, whatever the rounding of the affine.
        keeps = sizes * voxel_volume >= parameters.min_volume * (1 - 1e-6)
        if parameters.largest_component and sizes.size:
            keeps &= np.arange(sizes.size) == sizes.argmax()
        result[(components > 0) & ~np.concatenate([[False], keeps])[components]] = 0
    return result
