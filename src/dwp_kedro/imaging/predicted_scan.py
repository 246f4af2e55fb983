"""What a network says of one scan, on that scan's own grid, and the files that keep it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from dwp_kedro.imaging.geometry import between_grids, inside_grid
from dwp_kedro.imaging.volume import Volume

VOLUME_COLUMNS = (
    "name",
    "class",
    "volume",
    "volume_unit",
    "components",
    "mean_uncertainty",
    "seconds",
    "note",
    "problem",
)
"""Columns of ``volumes.csv``, a row per scan and class, or one for a scan with a problem.

The mean uncertainty is that inside the class's mask; there is none where the mask is empty."""

RECORD_SUFFIX = "_prediction.json"
"""End of the name of the file beside a scan's predictions that says what they are and what they depend on."""


@dataclass(frozen=True)
class PredictedScan:
    """All that is to be kept of one scan."""

    rows: list[dict[str, Any]]
    """Of ``volumes.csv``."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Contents by what follows ``<name>_`` in the file's name; none if the scan had a problem."""


@dataclass(frozen=True)
class ScanToPredict:
    """One scan that waits for its prediction."""

    name: str
    fingerprint: Callable[[], str]
    """Gives a hash of all that the prediction depends on."""
    predict: Callable[[], PredictedScan]


def probability_on_own_grid(
    probability: np.ndarray, affine: np.ndarray, own_shape: tuple[int, ...], own_affine: np.ndarray
) -> np.ndarray:
    """Bring class probabilities from the network's grid to a scan's own; their argmax is ``to_own_grid``'s label.

    Args:
        probability: (classes + 1, X, Y, Z) on the network's grid, background first.
        affine: (4, 4) of the network's grid, as ``preprocess_subject`` returned it.
        own_shape: of the scan.
        own_affine: (4, 4) of the scan, from ``declared_affine``.

    Returns:
        (classes + 1, x, y, z) float32, interpolated linearly; certain background outside the network's grid.
    """
    to_network = between_grids(affine, own_affine)
    own = np.empty((len(probability), *own_shape), dtype=np.float32)
    for of_class, on_grid in zip(own, probability, strict=True):
        ndimage.affine_transform(
            on_grid, to_network, output_shape=own_shape, output=of_class, order=1, mode="nearest"
        )
    outside = ~inside_grid(probability.shape[1:], own_shape, to_network)
    own[:, outside] = 0
    own[0, outside] = 1
    return own


def encode_like(array: np.ndarray, scan: Volume, description: str) -> bytes:
    """Content of a ``.nii.gz`` file of ``array`` that lies where ``scan`` lies.

    The header is the scan's: both affines with their codes, voxel sizes, units, byte order, NIfTI version. New
    are the data type, the description (at most 79 bytes), and for a fourth axis its size. Extensions and the
    names of other files, in which some converters leave who was scanned, are not taken over.
    """
    header = scan.header.copy()
    header.extensions.clear()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_data_offset(0)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header["pixdim"][4:] = 1
    header["descrip"] = description.encode()
    header["aux_file"] = b""
    if "db_name" in header:  # NIfTI-2 has none.
        header["db_name"] = b""
    image_type = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # No affine is given: nibabel would set the codes anew.
    return gzip.compress(image_type(array, None, header).to_bytes(), compresslevel=1, mtime=0)
