"""Whatever the bytes of a NIfTI file: a volume that can be used, or one error that names it."""

from __future__ import annotations

import gzip
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwp_kedro.imaging.header_checks import check_placement
from dwp_kedro.imaging.volume import VolumeError, decode_volume, read_volume

SHAPE = (2, 3, 4)
WHOLE = {
    kind: kind(np.arange(24, dtype=np.int16).reshape(SHAPE), np.diag([-1.0, 2.0, 3.0, 1.0])).to_bytes()
    for kind in (nib.Nifti1Image, nib.Nifti2Image)
}
HEADERS = {nib.Nifti1Image: nib.Nifti1Header, nib.Nifti2Image: nib.Nifti2Header}
INTEGERS = st.sampled_from([-(2**15), -6, -1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 512, 1024, 2304, 2**15 - 1])
FLOATS = st.one_of(st.floats(width=32), st.sampled_from([0.0, -1.0, 1.0, 352.0, 1e-30, 3e38]))
FIELDS = {
    "dim": INTEGERS, "datatype": INTEGERS, "bitpix": INTEGERS, "intent_code": INTEGERS, "qform_code": INTEGERS,
    "sform_code": INTEGERS, "xyzt_units": st.integers(0, 127), "pixdim": FLOATS, "vox_offset": FLOATS,
    "scl_slope": FLOATS, "scl_inter": FLOATS, "quatern_b": FLOATS, "quatern_c": FLOATS, "quatern_d": FLOATS,
    "qoffset_x": FLOATS, "srow_x": FLOATS, "srow_y": FLOATS, "srow_z": FLOATS,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep nibabel from telling of each header that it mends."""
    logger = logging.getLogger("nibabel.global")
    level, logger.level = logger.level, logging.CRITICAL + 1
    yield
    logger.level = level


@st.composite
def with_wrong_fields(draw: st.DrawFn) -> bytes:
    """A file with up to four fields of its header, or elements of them, set to anything."""
    kind = draw(st.sampled_from(list(WHOLE)))
    content = WHOLE[kind]
    header = HEADERS[kind](content[: HEADERS[kind].sizeof_hdr], check=False)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(list(FIELDS)))
        value: Any = draw(FIELDS[name])
        if header[name].dtype.kind in "iu":  # the offset of NIfTI-2, too
            value = int(np.clip(np.nan_to_num(value), -(2**15), 2**15 - 1))
        if header[name].shape:
            header[name][draw(st.integers(0, len(header[name]) - 1))] = value
        else:
            header[name] = value
    return header.binaryblock + content[header.sizeof_hdr :]


@st.composite
def with_wrong_bytes(draw: st.DrawFn) -> bytes:
    """A file with some bytes changed anywhere, perhaps cut short, or no file at all."""
    content = bytearray(WHOLE[draw(st.sampled_from(list(WHOLE)))])
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(content)))
    return draw(st.one_of(st.just(bytes(content)), st.just(bytes(content[:cut])), st.binary(max_size=600)))


def use(content: bytes, name: str, label: bool) -> None:
    """Open a file in both ways; each volume is whole, or the error names the file and what to do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        for opener in (lambda: read_volume(path, label=label), lambda: decode_volume(content, name, label=label)):
            refusal = ""
            try:
                volume = opener()
                assert volume.array.shape == volume.shape
                assert len(volume.shape) == 3
                assert np.isfinite(volume.array).all()
                assert np.isfinite(volume.affine).all()
                check_placement(volume, spacing_matters=True)
            except VolumeError as error:
                refusal = str(error)
            if refusal:
                assert f"{name}: " in refusal
                assert "; " in refusal


@settings(max_examples=150, deadline=None, derandomize=True)
@given(content=st.one_of(with_wrong_fields(), with_wrong_bytes()), label=st.booleans())
def test_any_header(content: bytes, label: bool) -> None:
    with np.errstate(all="ignore"):
        use(content, "scan.nii", label)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(content=with_wrong_fields(), data=st.data())
def test_any_compressed_file(content: bytes, data: st.DataObject) -> None:
    packed = bytearray(gzip.compress(content, mtime=0))
    for place in data.draw(st.lists(st.integers(0, len(packed) - 1), max_size=2)):
        packed[place] = data.draw(st.integers(0, 255))
    with np.errstate(all="ignore"):
        use(bytes(packed[: data.draw(st.integers(0, len(packed)))]), "scan.nii.gz", label=False)
        use(bytes(packed), "scan.nii.gz", label=False)
