"""Made-up scans in any storage order, and where things in them lie in the scanner."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import CohortParameters


def make_cohort(declared: Any = "header", labels: Any = "above_zero", **preprocessing: Any) -> CohortParameters:
    return CohortParameters.model_validate(
        {
            "name": "made_up",
            "description": "made up",
            "reader": {"layout": "subject_folders", "folder": ".", "channels": ["*"], "label": "*"},
            "spacing": declared,
            "labels": labels,
            "preprocessing": {"grid": (32, 32, 32), **preprocessing},
        }
    )


def signed_permutation(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    matrix = np.zeros((3, 3))
    matrix[list(order), [0, 1, 2]] = signs
    return matrix


def make_affine(axes: np.ndarray, spacing: Any, origin: Any = (0, 0, 0), tilt: Any = (0, 0, 0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ axes * spacing
    affine[:3, 3] = origin
    return affine


orientations = st.builds(
    signed_permutation, st.permutations([0, 1, 2]).map(tuple), st.tuples(*[st.sampled_from([-1, 1])] * 3)
)
spacings = st.tuples(*[st.floats(1.5, 4.0)] * 3)
affines = st.builds(
    make_affine,
    orientations,
    spacings,
    st.tuples(*[st.floats(-99, 99)] * 3),
    st.tuples(*[st.floats(-20, 20)] * 3),
)
shapes = st.tuples(*[st.integers(28, 40)] * 3)


def scanner_grid(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Scanner coordinates of every voxel, (X, Y, Z, 3)."""
    return apply_affine(affine, np.stack(np.indices(shape), axis=-1))


def centre_of_mass(weights: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """In scanner space, mm."""
    index = np.nonzero(weights)
    return apply_affine(affine, np.average(index, axis=1, weights=weights[index]))


def make_blob(shape: tuple[int, ...], affine: np.ndarray, place: np.ndarray) -> tuple[Volume, Volume]:
    """A Gaussian blob of 6 mm at a place in the scanner, and a ball of 10 mm around it as its label."""
    distance = np.linalg.norm(scanner_grid(shape, affine) - place, axis=-1)
    image = 1000 * np.exp(-0.5 * (distance / 6) ** 2)
    return Volume.from_array(image, affine), Volume.from_array((distance < 10).astype(np.uint8), affine)
