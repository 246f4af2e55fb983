"""Affines: small pure functions between voxel indices and scanner space (RAS, mm)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes


def with_spacing(affine: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Replace the voxel size of ``affine`` (4, 4) by ``spacing``, mm, along its own axes.

    The axes keep their directions, and the centre of voxel (0, 0, 0) keeps its place in the scanner.
    """
    result = np.array(affine, dtype=np.float64)
    result[:3, :3] *= np.asarray(spacing, dtype=np.float64) / voxel_sizes(result)
    return result


def largest_displacement(shape: Sequence[int], affine: np.ndarray, other: np.ndarray) -> float:
    """How far a voxel of a grid of ``shape`` at ``affine`` moves at most when read with ``other``.

    In units of the smallest voxel side of ``affine``. Affine maps differ most at a corner of the grid.
    """
    corners = np.array(list(product(*((0, side - 1) for side in shape))))
    distances = np.linalg.norm(apply_affine(affine, corners) - apply_affine(other, corners), axis=1)
    return float(distances.max() / voxel_sizes(affine).min())


def between_grids(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Affine (4, 4) from voxel indices of the grid at ``target`` to those of the grid at ``source``."""
    return np.linalg.solve(source, target)


def inside_grid(shape: Sequence[int], target_shape: Sequence[int], to_source: np.ndarray) -> np.ndarray:
    """Which voxels of a target grid have their centre inside a source grid, edge voxels in full.

    Args:
        shape: of the source grid.
        target_shape: of the target grid.
        to_source: (4, 4), target indices to source indices.

    Returns:
        bool array of ``target_shape``.
    """
    i, j, k = (np.arange(side, dtype=np.float64) for side in target_shape)
    inside = np.ones(tuple(target_shape), dtype=bool)
    for side, (along_i, along_j, along_k, offset) in zip(shape, to_source[:3], strict=True):
        index = (along_i * i)[:, None, None] + (along_j * j)[:, None] + (along_k * k + offset)
        # A hair more than half a voxel, so that rounding takes no voxel that lies on the edge.
        inside &= (index >= -0.5 - 1e-6) & (index <= side - 0.5 + 1e-6)
    return inside
