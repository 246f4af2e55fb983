from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dwp_kedro.imaging.predicted_scan import encode_like, probability_on_own_grid
from dwp_kedro.imaging.preprocessing import to_own_grid
from dwp_kedro.imaging.volume import read_volume

SHAPE = (6, 7, 5)
OBLIQUE = nib.affines.from_matvec(
    np.diag([0.9, 1.1, 3.0]) @ nib.eulerangles.euler2mat(0.2, -0.3, 0.1), [-20.0, 31.5, 7.25]
)


def written_scan(folder: Path, kind: type[nib.Nifti1Image] = nib.Nifti1Image, order: str = "<") -> Path:
    """A scan whose two affines differ, with all that a header may hold."""
    header = (nib.Nifti2Header if kind is nib.Nifti2Image else nib.Nifti1Header)(endianness=order)
    header.set_data_dtype(np.int16)
    image = kind(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), None, header)
    turned = OBLIQUE.copy()
    turned[:3, 3] += 4
    image.set_qform(OBLIQUE, code=1)
    image.set_sform(turned, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"Jane Doe 1970-01-01"
    image.header["aux_file"] = b"jane_doe.txt"
    image.header["cal_max"] = 700
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"patient: Jane Doe"))
    path = folder / "scan.nii.gz"
    nib.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tail", [(), (3,)])
def test_a_file_lies_where_the_scan_lies(
    tmp_path: Path, kind: type[nib.Nifti1Image], order: str, tail: tuple[int, ...]
):
    path = written_scan(tmp_path, kind, order)
    array = np.random.default_rng(0).random((*SHAPE, *tail)).astype(np.float32)
    (tmp_path / "out.nii.gz").write_bytes(encode_like(array, read_volume(path), "what it is"))
    scan, made = nib.load(path), nib.load(tmp_path / "out.nii.gz")
    assert type(made) is kind
    assert made.header.endianness == order
    assert np.array_equal(made.get_fdata(dtype=np.float32), array)
    assert made.get_data_dtype().newbyteorder("=") == np.float32
    assert made.shape == array.shape
    for name in ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
        assert np.array_equal(made.header[name], scan.header[name]), name
    assert np.array_equal(made.header["pixdim"][:4], scan.header["pixdim"][:4])
    assert np.array_equal(made.affine, scan.affine)


def test_codes_that_are_all_zero_stay_so(tmp_path: Path):
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), None)
    image.header.set_zooms((2, 3, 4))
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.save(image, tmp_path / "scan.nii.gz")
    (tmp_path / "out.nii.gz").write_bytes(
        encode_like(np.ones(SHAPE, np.uint8), read_volume(tmp_path / "scan.nii.gz"), "")
    )
    scan, made = nib.load(tmp_path / "scan.nii.gz"), nib.load(tmp_path / "out.nii.gz")
    assert (int(made.header["sform_code"]), int(made.header["qform_code"])) == (0, 0)
    assert np.array_equal(made.affine, scan.affine)


def test_who_was_scanned_is_not_written(tmp_path: Path):
    import gzip

    content = gzip.decompress(encode_like(np.ones(SHAPE, np.uint8), read_volume(written_scan(tmp_path)), "mask"))
    assert b"ane" not in content
    assert len(content) == 352 + np.prod(SHAPE)


def test_the_same_array_gives_the_same_bytes(tmp_path: Path):
    scan = read_volume(written_scan(tmp_path))
    assert encode_like(np.ones(SHAPE, np.uint8), scan, "mask") == encode_like(
        np.ones(SHAPE, np.uint8), scan, "mask"
    )


def test_the_most_probable_class_is_the_label_that_the_experiment_scores():
    generator = np.random.default_rng(3)
    raw = generator.random((3, 8, 8, 8)).astype(np.float32)
    probability = raw / raw.sum(0)
    affine = nib.affines.from_matvec(np.diag([1.5, 1.5, 2.0]), [-5, -6, -7])
    own = nib.affines.from_matvec(np.diag([-0.8, 1.1, 3.0]) @ nib.eulerangles.euler2mat(0.3), [6, -4, -8])
    on_own = probability_on_own_grid(probability, affine, (15, 12, 7), own)
    assert np.array_equal(on_own.argmax(0), to_own_grid(probability, affine, (15, 12, 7), own))
    assert np.allclose(on_own.sum(0), 1, atol=1e-5)
    outside = on_own[0] == 1
    assert 0 < outside.sum() < outside.size


def test_a_grid_twice_as_fine_takes_means_of_neighbours():
    probability = np.stack([np.linspace(1, 0, 4), np.linspace(0, 1, 4)]).astype(np.float32)[..., None, None]
    own = probability_on_own_grid(probability, np.eye(4), (7, 1, 1), np.diag([0.5, 1.0, 1.0, 1.0]))
    assert np.allclose(own[1, :, 0, 0], np.linspace(0, 1, 7), atol=1e-6)
