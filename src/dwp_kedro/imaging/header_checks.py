"""What a NIfTI header must say before its voxels are worth reading."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import HeaderDataError

from dwp_kedro.imaging.geometry import largest_displacement

if TYPE_CHECKING:
    from dwp_kedro.imaging.volume import Volume

_MOST_DEFLATED = 1032
"""No byte of a gzip file stands for more bytes than this (zlib's documentation)."""
_KNOWN_SPACES = range(6)  # of sform_code and qform_code; nibabel takes others for 0 and reads another affine
_FOREIGN_UNITS = {1: "metres", 3: "micrometres"}
_MOST_TILT = 1.0  # degrees off a right angle; changes a voxel's volume by 0.02 %
_MOST_CONFLICT = 0.5  # voxels between sform and qform: the latter is stored with few digits
_MOST_RATIO = 1.01  # of a voxel size to the one that the header has elsewhere
_EXTENTS = (1.0, 3000.0)  # mm, of a scan of anything from a mouse's organ to a whole body


class VolumeError(ValueError):
    """A volume that cannot be used; the message names the file and what to do."""


def check_size(image: Any, n_bytes: int, is_compressed: bool, source: str | Path) -> None:
    """Refuse a file too small for the voxels it declares, before memory is taken for them."""
    needed = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    if needed > n_bytes * (_MOST_DEFLATED if is_compressed else 1):
        raise VolumeError(
            f"{source}: the file is cut short or damaged (its header declares the shape {image.shape}, {needed} "
            f"bytes, and the file has {n_bytes}{', compressed' if is_compressed else ''}); copy or download it "
            "again"
        )


def check_raw_header(header: Any, source: str) -> None:
    """Refuse what nibabel would silently set right, or reads as if it were."""
    if bytes(header["magic"])[:2] == b"ni":
        raise VolumeError(
            f"{source}: the header of a pair of files, whose voxels lie in an .img file; convert both to one .nii"
        )
    for size in header["pixdim"][1:4]:
        if not 0 < size < np.inf:
            raise VolumeError(
                f"{source}: a voxel size in the header is {size:g}; write the true spacing (pixdim) into it"
            )
    for form in ("sform_code", "qform_code"):
        if header[form] not in _KNOWN_SPACES:
            raise VolumeError(
                f"{source}: its {form} is {header[form]}, which NIfTI does not know; write the right one (1: "
                "scanner)"
            )
    unit = int(header["xyzt_units"]) & 7
    if unit in _FOREIGN_UNITS:
        raise VolumeError(
            f"{source}: the header gives voxel sizes in {_FOREIGN_UNITS[unit]}; write them in mm (xyzt_units 2)"
        )


def check_shape(shape: tuple[int, ...], source: str, channel: int | None, ndim: int) -> tuple[int, ...]:
    """Shape of the volume in a file of ``shape``."""
    if min(shape, default=1) < 1:
        raise VolumeError(f"{source}: its header declares the shape {shape}; repair it, or convert the scan anew")
    if channel is not None:
        if len(shape) != 4 or channel >= shape[3]:
            raise VolumeError(f"{source}: no such channel in a file of shape {shape}; correct the number")
        return shape[:3]
    if len(shape) > ndim and all(side == 1 for side in shape[ndim:]):
        return shape[:ndim]
    if len(shape) != ndim:
        mend = "name one channel of it (file.nii.gz#0)" if len(shape) == 4 else "give the right file"
        raise VolumeError(f"{source}: {len(shape)}D, of shape {shape}, where {ndim}D is meant; {mend}")
    return shape


def check_placement(volume: Volume, *, spacing_matters: bool) -> None:
    """Refuse a volume whose header contradicts itself or cannot be a scan's.

    sform and qform may differ where they have different codes, because they then are affines to different spaces
    (scanner and atlas, say), but one may not mirror the other.

    Args:
        volume: as it was read from a file.
        spacing_matters: sizes in mm are taken from this header, so they are checked, too.

    Raises:
        VolumeError: the volume is a single slice, its axes are not perpendicular, sform and qform disagree, or
            its voxel sizes disagree or make a scan of less than 1 mm or more than 3 m.
    """
    if min(volume.shape) < 2:
        raise VolumeError(
            f"{volume.source}: 1 voxel along an axis, of shape {volume.shape}: a slice, no volume; stack slices "
            "into one file"
        )
    _check_perpendicular(volume)
    _check_forms_agree(volume)
    if spacing_matters:
        _check_spacing(volume)


def has_orientation(volume: Volume) -> bool:
    """Say whether the header tells where the axes point to; where it does not, nibabel assumes LAS."""
    return bool(volume.header["sform_code"] > 0 or volume.header["qform_code"] > 0)


def _check_perpendicular(volume: Volume) -> None:
    directions = volume.affine[:3, :3] / voxel_sizes(volume.affine)
    cosines = (directions.T @ directions)[np.triu_indices(3, k=1)]
    tilt = float(np.degrees(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())
    if not tilt <= _MOST_TILT:
        raise VolumeError(
            f"{volume.source}: its axes are not perpendicular, by {tilt:.3g} degrees (CT with gantry tilt?); "
            "resample it to perpendicular axes, with its label map"
        )


def _check_forms_agree(volume: Volume) -> None:
    header = volume.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    if min(codes) <= 0:
        return
    mend = "find out which is right, and write it into both, here and in the label map"
    try:
        qform = header.get_qform()
    except (HeaderDataError, ValueError) as error:
        raise VolumeError(f"{volume.source}: its qform is no rotation ({error}); {mend}") from error
    if not np.linalg.det(qform[:3, :3]) * np.linalg.det(volume.affine[:3, :3]) > 0:
        raise VolumeError(f"{volume.source}: sform and qform mirror each other: left may be right; {mend}")
    distance = largest_displacement(volume.shape, volume.affine, qform)
    if codes[0] == codes[1] and not distance <= _MOST_CONFLICT:
        raise VolumeError(
            f"{volume.source}: sform and qform, both of code {codes[0]}, lie up to {distance:.3g} voxels apart; "
            f"{mend}"
        )


def _check_spacing(volume: Volume) -> None:
    stated, used = np.asarray(volume.header["pixdim"][1:4], dtype=np.float64), np.asarray(volume.spacing)
    ratios = np.maximum(stated / used, used / stated)
    if not ratios.max() <= _MOST_RATIO:
        raise VolumeError(
            f"{volume.source}: its affine has voxels of {_sides(used)} mm, its pixdim of {_sides(stated)} mm; "
            "write the true size into both, or say it in the parameter spacing"
        )
    extents = used * volume.shape
    if not (extents.min() >= _EXTENTS[0] and extents.max() <= _EXTENTS[1]):
        raise VolumeError(
            f"{volume.source}: it would measure {_sides(extents)} mm; write the true voxel size into the header, "
            "or say it in the parameter spacing"
        )


def _sides(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
