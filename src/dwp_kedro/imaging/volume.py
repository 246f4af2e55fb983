"""A scan or label map as a value: voxels, where they lie in the scanner, and the header they came with."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from dwp_kedro.atomic_write import atomic_file
from dwp_kedro.imaging.header_checks import VolumeError, check_raw_header, check_shape, check_size

SUFFIXES = (".nii", ".nii.gz")
_CHANNEL_REFERENCE = re.compile(r"(?P<path>.+\.nii(?:\.gz)?)#(?P<channel>\d+)")
# ValueError and OverflowError: numbers in a header that nibabel does not expect, such as an offset that is NaN.
_UNREADABLE = (
    ImageFileError, HeaderDataError, WrapStructError, EOFError, OSError, zlib.error, ValueError, OverflowError,
)  # fmt: skip
_LARGEST_LABEL = 2**31

_Open = Callable[[], io.BufferedIOBase]


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid in scanner space.

    >>> volume = Volume.from_array(np.zeros((4, 5, 6), np.float32), np.diag([-1.0, -1.0, 3.0, 1.0]))
    >>> volume.shape, volume.spacing, volume.orientation
    ((4, 5, 6), (1.0, 1.0, 3.0), 'LPS')
    """

    affine: np.ndarray
    """(4, 4) float64: voxel indices to RAS scanner coordinates, mm."""
    header: nib.Nifti1Header
    source: str
    """File it came from, for messages; empty where there is none."""
    _read: Callable[[], np.ndarray] = field(repr=False)

    @classmethod
    def from_array(cls, array: np.ndarray, affine: np.ndarray, source: str = "") -> Volume:
        """Make a volume of ``array`` (X, Y, Z), whose voxels lie at ``affine`` (4, 4), mm."""
        header = nib.Nifti1Header()
        header.set_data_shape(array.shape)
        return cls(np.asarray(affine, dtype=np.float64), header, source, partial(np.asarray, array))

    @cached_property
    def array(self) -> np.ndarray:
        """Voxels, axes as in the file; read at the first access.

        Raises:
            VolumeError: the file is cut short or damaged, or has NaN or infinite voxels, or non-integer labels.
        """
        return self._read()

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis; does not read them."""
        return tuple(int(side) for side in self.header.get_data_shape())

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the array's axes, mm."""
        x, y, z = (float(size) for size in nib.affines.voxel_sizes(self.affine))
        return x, y, z

    @property
    def orientation(self) -> str:
        """Where the array's axes point to, for example ``LPS``: left, posterior, superior."""
        return "".join(nib.aff2axcodes(self.affine))


def read_volume(path: str | Path, *, label: bool = False, ndim: int = 3) -> Volume:
    """Open a NIfTI file: its header is checked now, its voxels when ``.array`` is first read.

    Args:
        path: ``.nii`` or ``.nii.gz``; ``scan.nii.gz#2`` is channel 2 of a 4D file.
        label: the file is a label map; its voxels come as the smallest integer type that holds them.
        ndim: number of axes; further axes of length 1 are dropped.

    Raises:
        VolumeError: the file is missing, empty, no NIfTI, of other dimensions, without a usable affine or voxel
            size, or smaller than the voxels it declares.
    """
    reference = _CHANNEL_REFERENCE.fullmatch(str(path))
    file = Path(reference["path"] if reference else path)
    _check_suffix(file)
    if not file.is_file():
        raise VolumeError(f"{file}: no such file; check the path, or bring the file there")
    size = file.stat().st_size
    is_compressed = file.name.lower().endswith(".gz")

    def opener() -> io.BufferedIOBase:
        return gzip.GzipFile(file) if is_compressed else file.open("rb")

    try:
        with opener() as stream:
            first_bytes = stream.read(nib.Nifti2Header.sizeof_hdr)
        image = _image_type(first_bytes).from_filename(file)
    except _UNREADABLE as error:
        raise _no_nifti(file, size, error) from error
    check_size(image, size, is_compressed, file)
    channel = reference and int(reference["channel"])
    return _to_volume(image, first_bytes, str(path), channel, label, ndim, opener if is_compressed else None)


def decode_volume(content: bytes, name: str, *, label: bool = False, ndim: int = 3) -> Volume:
    """Like :func:`read_volume`, from the content of a file called ``name``."""
    _check_suffix(name)
    is_compressed = name.lower().endswith(".gz")

    def opener() -> io.BufferedIOBase:
        return gzip.GzipFile(fileobj=io.BytesIO(content)) if is_compressed else io.BytesIO(content)

    try:
        with opener() as stream:
            first_bytes = stream.read(nib.Nifti2Header.sizeof_hdr)
        image = _image_type(first_bytes).from_stream(opener())
    except _UNREADABLE as error:
        raise _no_nifti(name, len(content), error) from error
    check_size(image, len(content), is_compressed, name)
    return _to_volume(image, first_bytes, name, None, label, ndim, opener if is_compressed else None)


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a NIfTI file, whole or not at all; folders are made, an older file is replaced.

    Raises:
        VolumeError: the path does not end in .nii or .nii.gz.
        WriteError: the disk is full, or the place must not be written to.
    """
    path = Path(path)
    content = encode_volume(volume, path.name)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def encode_volume(volume: Volume, name: str) -> bytes:
    """Content of the NIfTI file ``name``: affine as sform and qform, unit mm, the array's data type.

    bool becomes uint8, 64-bit integers the smallest integer type that holds them, floats float32. The same
    volume gives the same bytes.
    """
    _check_suffix(name)
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype in (np.int64, np.uint64):
        array = array.astype(_smallest_integer_type(array))
    elif array.dtype.kind == "f":
        array = array.astype(np.float32)
    image = nib.Nifti1Image(array, volume.affine, volume.header)
    image.set_data_dtype(array.dtype)
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    # Higher levels cost several times the time and gain a few per cent on scans.
    return gzip.compress(content, compresslevel=1, mtime=0) if name.endswith(".gz") else content


def _image_type(first_bytes: bytes) -> type[nib.Nifti1Image] | type[nib.Nifti2Image]:
    is_nifti2 = nib.Nifti2Header.may_contain_header(first_bytes)
    return nib.Nifti2Image if is_nifti2 else nib.Nifti1Image


def _to_volume(
    image: Any,
    first_bytes: bytes,
    source: str,
    channel: int | None,
    label: bool,
    ndim: int,
    compressed: _Open | None,
) -> Volume:
    shape = check_shape(image.shape, source, channel, ndim)
    header_type = type(image.header)
    raw_header = header_type(first_bytes[: header_type.sizeof_hdr], check=False)
    check_raw_header(raw_header, source)
    if image.get_data_dtype().kind not in "iuf":
        raise VolumeError(
            f"{source}: voxels are {image.get_data_dtype()}, not numbers; convert colour or complex voxels "
            "to one number per voxel"
        )
    axes = image.affine[:3, :3]
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(axes, tol=1e-6 * np.abs(axes).max()) < 3:
        raise VolumeError(
            f"{source}: the affine is singular or not finite; repair sform or qform, or convert the scan anew"
        )
    header = image.header.copy()
    header.set_data_shape(shape)
    return Volume(
        affine=np.asarray(image.affine, dtype=np.float64),
        header=header,
        source=source,
        _read=partial(_read_array, image.dataobj, compressed, shape, source, channel, label),
    )


def _read_array(
    dataobj: ArrayProxy,
    compressed: _Open | None,
    shape: tuple[int, ...],
    source: str,
    channel: int | None,
    label: bool,
) -> np.ndarray:
    try:
        array = _read_voxels(dataobj, compressed, channel).reshape(shape)
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise VolumeError(
            f"{source}: the file is cut short or damaged ({error}); copy or download it again"
        ) from error
    except MemoryError as error:
        raise VolumeError(
            f"{source}: its voxels do not fit into memory (shape {shape}); is this its true size? If so, crop it "
            "or use a larger machine"
        ) from error
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            n_bad = int(array.size - np.count_nonzero(np.isfinite(array.astype(np.float32, copy=False))))
        if n_bad:
            raise VolumeError(
                f"{source}: {n_bad} voxels are NaN or infinite, or too large for float32; replace them, for "
                "example by 0"
            )
    return _to_labels(array, source) if label else array


def _read_voxels(dataobj: ArrayProxy, compressed: _Open | None, channel: int | None) -> np.ndarray:
    """Read all voxels, or those of one channel; of a gzip file to its end, where its checksum is."""
    if compressed is None:
        return np.asarray(dataobj if channel is None else dataobj[..., channel])
    with compressed() as stream:
        spec = (dataobj.shape, dataobj.dtype, dataobj.offset, dataobj.slope, dataobj.inter)
        opened = ArrayProxy(stream, spec)
        array = np.asarray(opened if channel is None else opened[..., channel])
        while stream.read(1 << 20):
            pass
    return array


def _to_labels(array: np.ndarray, source: str) -> np.ndarray:
    """Voxels of a label map as the smallest integer type that holds them."""
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        example = array[array != np.rint(array)][0]
        raise VolumeError(
            f"{source}: a label map must hold integers, found {example:.9g}; give the right file, "
            "or resample it with nearest neighbours"
        )
    largest = max(abs(int(array.min())), abs(int(array.max())))
    if largest > _LARGEST_LABEL:
        raise VolumeError(f"{source}: a label map has small integers, found {largest:.3g}; give the right file")
    return array.astype(_smallest_integer_type(array))


def _smallest_integer_type(array: np.ndarray) -> np.dtype:
    """Smallest integer type that holds every voxel of ``array``; unsigned where none is negative."""
    if array.size == 0:
        return np.dtype(np.uint8)
    return np.result_type(np.min_scalar_type(int(array.min())), np.min_scalar_type(int(array.max())))


def _check_suffix(path: str | Path) -> None:
    if not str(path).lower().endswith(SUFFIXES):
        raise VolumeError(f"{path}: not a NIfTI file name; it must end in .nii or .nii.gz")


def _no_nifti(path: str | Path, n_bytes: int, error: Exception) -> VolumeError:
    if n_bytes == 0:
        return VolumeError(f"{path}: the file is empty; copy or download it again")
    if isinstance(error, EOFError):
        return VolumeError(f"{path}: the file is cut short ({error}); copy or download it again")
    return VolumeError(
        f"{path}: not a readable NIfTI file ({error}); copy or download it again, or convert it to NIfTI"
    )
