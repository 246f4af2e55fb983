"""NIfTI files with everything wrong that a file can have, and what is said of each."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np

SHAPE, AFFINE = (6, 7, 8), np.diag([-1.0, -1.0, 3.0, 1.0])
SHEARED, MIRRORED = AFFINE.copy(), AFFINE.copy()
SHEARED[0, 1], MIRRORED[0, 0] = 0.1, 1.0


def scan(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, shape).astype(np.int16)


def mask(seed: int = 0) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[1 + seed % 3 : 6, 1:6, 2:7] = 1
    return label


def file(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(parts), mtime=0)


def nifti(array: np.ndarray, affine: np.ndarray | None = AFFINE, **fields: Any) -> bytes:
    """Content of a .nii.gz; ``fields`` are set in the raw header, where nibabel would refuse them."""
    image = nib.Nifti1Image(array, affine)
    content = image.to_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        field, _, index = name.partition("__")
        if index:
            header[field][int(index)] = value
        else:
            header[field] = value
    return file(header.binaryblock, content[348:])


def with_voxel(value: float, dtype: type = np.float32) -> np.ndarray:
    array = scan().astype(dtype)
    array[1, 1, 1] = value
    return array


def with_forms(qform: np.ndarray, sform_code: int = 1) -> bytes:
    image = nib.Nifti1Image(scan(), AFFINE)
    image.set_sform(AFFINE, sform_code)
    image.set_qform(qform, 1)
    return file(image.to_bytes())


def shifted(millimetres: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def enormous() -> bytes:
    return nifti(scan(), dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])


def bit_flipped() -> bytes:
    """A file that unpacks to other voxels: only gzip's checksum tells."""
    content = bytearray(gzip.compress(gzip.decompress(nifti(scan())), compresslevel=0))
    content[600] ^= 0x40
    return bytes(content)


COLOUR = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
TURNED = nib.orientations.inv_ornt_aff([[0, 1], [1, -1], [2, 1]], SHAPE)

BAD_IMAGES: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "empty file": (b"", "the file is empty"),
    "gzip cut short": (nifti(scan())[:-100], "cut short"),
    "gzip without its last bytes": (nifti(scan())[:-6], "cut short or damaged"),
    "a flipped bit": (bit_flipped, "damaged (CRC check failed"),
    "no NIfTI": (gzip.compress(b"a letter, not a scan" * 100), "not a readable NIfTI file"),
    "wrong magic": (nifti(scan(), magic=b"nxx"), "not a readable NIfTI file"),
    "header of a pair": (nifti(scan(), magic=b"ni1"), "header of a pair"),
    "not compressed": (gzip.decompress(nifti(scan())), "not a readable NIfTI file (Not a gzipped file"),
    "2D": (nifti(scan(shape=(6, 7))), "2D, of shape (6, 7)"),
    "4D": (nifti(scan(shape=(6, 7, 8, 2))), "4D, of shape (6, 7, 8, 2)"),
    "5D": (nifti(scan(shape=(6, 7, 8, 1, 3))), "5D, of shape"),
    "colour": (nifti(COLOUR), "not numbers"),
    "complex": (nifti(scan().astype(np.complex64)), "not numbers"),
    "unknown data type": (nifti(scan(), datatype=999), "not a readable NIfTI file"),
    "NaN": (nifti(with_voxel(np.nan)), "1 voxels are NaN"),
    "infinite": (nifti(with_voxel(np.inf)), "1 voxels are NaN or infinite"),
    "beyond float32": (nifti(with_voxel(1e300, np.float64)), "too large for float32"),
    "NaN slope": (nifti(scan(), scl_slope=1e38, scl_inter=1e38), "too large for float32"),
    "constant": (nifti(np.full(SHAPE, 7, np.int16)), "the image is constant (7)"),
    "nothing above the threshold": (nifti(-scan()), "no voxel is above 0"),
    "spacing 0": (nifti(scan(), pixdim__2=0), "voxel size in the header is 0"),
    "negative spacing": (nifti(scan(), pixdim__3=-3), "voxel size in the header is -3"),
    "NaN spacing": (nifti(scan(), pixdim__1=np.nan), "voxel size in the header is nan"),
    "metres": (nifti(scan(), xyzt_units=1), "voxel sizes in metres"),
    "micrometres": (nifti(scan(), xyzt_units=3), "voxel sizes in micrometres"),
    "spacing in metres, called mm": (nifti(scan(), AFFINE * 0.001), "it would measure 0.006 x 0.007 x 0.024 mm"),
    "spacing of a giant": (nifti(scan(), AFFINE * 1000), "it would measure 6000 x 7000 x 2.4e+04 mm"),
    "pixdim against sform": (
        nifti(scan(), pixdim__3=1),
        "its affine has voxels of 1 x 1 x 3 mm, its pixdim of 1 x",
    ),
    "singular affine": (nifti(scan(), srow_x=[0, 0, 0, 0]), "singular"),
    "NaN in the affine": (nifti(scan(), srow_x=[np.nan, 0, 0, 0]), "singular or not finite"),
    "axes not perpendicular": (nifti(scan(), SHEARED), "not perpendicular, by 5.71 degrees"),
    "sform against qform": (with_forms(shifted(2)), "sform and qform, both of code 1, lie up to 2 voxels apart"),
    "sform mirrored": (with_forms(MIRRORED, sform_code=4), "sform and qform mirror each other"),
    "qform no rotation": (nifti(scan(), qform_code=1, sform_code=1, quatern_b=2), "qform is no rotation"),
    "unknown sform code": (nifti(scan(), sform_code=138), "its sform_code is 138, which NIfTI does not know"),
    "one slice": (nifti(scan(shape=(6, 7, 1))), "1 voxel along an axis"),
    "negative shape": (nifti(scan(), dim__1=-6), "declares the shape"),
    "shape with 0": (nifti(scan(), dim__2=0), "declares the shape (6, 0, 8)"),
    "nine axes": (nifti(scan(), dim__0=9), "not a readable NIfTI file"),
    "enormous shape": (enormous, "cut short or damaged (its header declares the shape (30000, 30000, 30000)"),
}

BAD_MASKS: dict[str, tuple[bytes, str]] = {
    "mask all zero": (nifti(0 * mask()), "empty mask: its values are 0"),
    "mask without background": (nifti(mask() + 1), "all voxels are labelled"),
    "mask of fractions": (nifti(mask() * np.float32(0.5)), "must hold integers, found 0.5"),
    "mask of huge numbers": (nifti(mask() * 1e15), "has small integers, found 1e+15"),
    "mask below 0": (nifti(2 * mask().astype(np.int16) - 1), "values below 0"),
    "mask that is another scan": (nifti(scan(5)), "different values: an image, no label map?"),
    "mask of another shape": (nifti(mask()[:-1]), "its grid is (5, 7, 8)"),
    "mask half a voxel off": (nifti(mask(), shifted(0.5)), "lies up to 0.5 voxels away"),
    "mask turned": (nifti(mask(), AFFINE @ TURNED), "voxels away"),
    "mask with NaN": (nifti(mask() * np.float32(np.nan)), "NaN"),
}
