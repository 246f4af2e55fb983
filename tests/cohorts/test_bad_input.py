"""Everything that a cohort can have wrong: each ends in one problem that names subject, file and mend.

What is not in these lists: the parameters' own checks (tests/parameters), new scans (test_new_scans.py).
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dwp_kedro.cohorts.checks import CohortError, find_overlap, raise_problems
from dwp_kedro.cohorts.manifest import build_manifest, resolve
from dwp_kedro.cohorts.splits import check_splits
from dwp_kedro.parameters import CohortParameters, GridParameters

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


def cohort(folder: Path, reader: dict[str, Any] | None = None, **changes: Any) -> CohortParameters:
    of_folders = {"layout": "subject_folders", "folder": folder, "channels": ["image.nii*"], "label": "seg.nii*"}
    given = {
        "name": "cases",
        "description": "",
        "reader": reader or of_folders,
        "preprocessing": {"grid": [16] * 3},
    }
    return CohortParameters.model_validate(given | changes)


def add(folder: Path, subject: str, seed: int = 0) -> Path:
    (folder / subject).mkdir(parents=True)
    (folder / subject / "image.nii.gz").write_bytes(nifti(scan(seed)))
    (folder / subject / "seg.nii.gz").write_bytes(nifti(mask(seed)))
    return folder / subject


def problems_of(parameters: CohortParameters) -> dict[str, str]:
    """What is told of each subject: file, problem, mend; a subject with a problem is not in the manifest."""
    manifest, problems = build_manifest(parameters)
    assert not set(manifest["subject"]) & set(problems["subject"])
    assert all(problems["mend"].str.len() > 10)
    return {row.subject: f"{row.file}: {row.problem}" for row in problems.itertuples()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path / "cohort", "good", seed=1)
    return tmp_path / "cohort"


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_image(folder: Path, kind: str) -> None:
    content, problem = BAD_IMAGES[kind]
    (add(folder, "bad") / "image.nii.gz").write_bytes(content if isinstance(content, bytes) else content())
    found = problems_of(cohort(folder))
    assert found.keys() == {"bad"}
    assert "bad/image.nii.gz: " in found["bad"]
    assert problem in found["bad"]


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_bad_mask(folder: Path, kind: str) -> None:
    content, problem = BAD_MASKS[kind]
    (add(folder, "bad") / "seg.nii.gz").write_bytes(content)
    found = problems_of(cohort(folder))
    assert found.keys() == {"bad"}
    assert "bad/seg.nii.gz: " in found["bad"]
    assert problem in found["bad"]


def copy_image_as_mask(bad: Path) -> None:
    for name in ("image", "seg"):
        (bad / f"{name}.nii.gz").write_bytes(nifti(mask()))


def store_otherwise(bad: Path) -> None:
    """Write the good subject's scan with the first axis turned round, as float32."""
    turned = AFFINE @ nib.orientations.inv_ornt_aff([[0, -1], [1, 1], [2, 1]], SHAPE)
    (bad / "image.nii.gz").write_bytes(nifti(scan(1)[::-1].astype(np.float32), turned))
    (bad / "seg.nii.gz").write_bytes(nifti(mask()[::-1], turned))


def link_out(bad: Path) -> None:
    outside = bad.parents[1] / "outside.nii.gz"
    shutil.move(bad / "image.nii.gz", outside)
    (bad / "image.nii.gz").symlink_to(outside)


def link_to(bad: Path, target: str) -> None:
    (bad / "image.nii.gz").unlink()
    (bad / "image.nii.gz").symlink_to(target)


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "image as its own mask": (copy_image_as_mask, "image and label map are the same"),
    "missing channel": (lambda bad: (bad / "image.nii.gz").unlink(), "no file for the pattern 'image.nii*'"),
    "missing mask": (lambda bad: (bad / "seg.nii.gz").unlink(), "no file for the pattern 'seg.nii*'"),
    "two images": (lambda bad: shutil.copy(bad / "image.nii.gz", bad / "image.nii"), "2 files could be the"),
    "link out of the folder": (link_out, "symbolic link leads out of the cohort's folder"),
    "link to nothing": (lambda bad: link_to(bad, "gone.nii.gz"), "no file for the pattern"),
    "link in a circle": (lambda bad: link_to(bad, "image.nii.gz"), "no file for the pattern"),
    "name with a control character": (lambda bad: bad.rename(f"{bad}\x1b[31m"), "cannot be a file name"),
    "name that is no text": (lambda bad: os.rename(bad, os.fsencode(bad) + b"\xff"), "cannot be a file name"),
    "names alike": (lambda bad: bad.rename(bad.with_name("GOOD")), "only in upper and lower case"),
    "the same scan, stored otherwise": (store_otherwise, "has the same image content as good"),
    "another's mask": (
        lambda bad: shutil.copy(bad.parent / "good/seg.nii.gz", bad / "seg.nii.gz"),
        "has the same label map as good",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_bad_folder(folder: Path, kind: str) -> None:
    spoil, problem = BAD_FOLDERS[kind]
    spoil(add(folder, "bad"))
    manifest, problems = build_manifest(cohort(folder))
    told = [f"{row.subject} {row.problem}" for row in problems.itertuples()]
    assert any(problem in line for line in told), told
    assert not any("\x1b" in line for line in told)
    assert set(manifest["subject"]) <= {"good"}
    with pytest.raises(CohortError, match="nothing was trained"):
        raise_problems(problems)
    problems.to_csv(folder / "problems.csv")


def test_a_header_that_would_fill_the_memory_once_resampled(folder: Path) -> None:
    (add(folder, "bad") / "image.nii.gz").write_bytes(nifti(scan(), np.diag([-400.0, -400.0, 300.0, 1.0])))
    (folder / "bad/seg.nii.gz").write_bytes(nifti(mask(), np.diag([-400.0, -400.0, 300.0, 1.0])))
    found = problems_of(cohort(folder, preprocessing={"grid": None, "spacing": [1, 1, 1]}))
    assert found == {"bad": "bad/image.nii.gz: resampled to 1 1 1 mm it would have 1.6e+10 voxels."}


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_an_enormous_shape_takes_no_memory(folder: Path, name: str) -> None:
    bad = add(folder, "bad")
    (bad / "image.nii.gz").unlink()
    (bad / name).write_bytes(enormous() if name.endswith("gz") else gzip.decompress(enormous()))
    tracemalloc.start()
    found = problems_of(cohort(folder))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "declares the shape (30000, 30000, 30000)" in found["bad"]
    assert peak < 20e6


ROW = "{0},{1}/image.nii.gz,{1}/seg.nii.gz\n"
HEAD = "subject,image,label\n"
BAD_TABLES: dict[str, tuple[str | bytes, str]] = {
    "absolute path": (HEAD + "bad,/etc/hosts.nii,good/seg.nii.gz\n", "path leaves the cohort's folder"),
    "path upwards": (HEAD + ROW.format("bad", "good/../../cohort/good"), "path leaves the cohort's folder"),
    "Windows path": (HEAD + ROW.format("bad", "C:\\scans"), "path leaves the cohort's folder"),
    "control character in a path": (HEAD + ROW.format("bad", "a\tb"), "control character in a path"),
    "subject twice": (HEAD + ROW.format("bad", "good") * 2, "is listed more than once"),
    "subject as path": (HEAD + ROW.format("a/b", "good"), "cannot be a file name"),
    "endless name": (HEAD + ROW.format("b" * 201, "good"), "cannot be a file name"),
    "one mask for two": (HEAD + ROW.format("bad", "good") + ROW.format("good", "good"), "the same image content"),
    "row without a mask": (HEAD + "bad,good/image.nii.gz\n", "a row has no label"),
    "row without a name": (HEAD + ",good/image.nii.gz,good/seg.nii.gz\n", "a row has no subject"),
    "gap among channels": ("subject,image_0,image_2,label\nbad,a,b,c\n", "image_1, … without gaps"),
    "no column for masks": ("subject,image\nbad,a.nii\n", "it needs subject, image"),
    "column twice": ("subject,image,label,label\nbad,a,b,c\n", "several columns label"),
    "comma in a name": (HEAD + "Doe, Jane,a.nii,b.nii\n", "row 2: 4 cells under 3 columns"),
    "tabs": (HEAD.replace(",", "\t"), "it needs subject, image"),
    "quote left open": (HEAD + '"bad,a,b\n', "not a CSV table"),
    "UTF-16": (HEAD.encode("utf-16"), "not a CSV table in UTF-8"),
    "Latin-1": ((HEAD + ROW.format("Jörg", "good")).encode("latin-1"), "not a CSV table in UTF-8"),
    "no rows": (HEAD, "holds no subject"),
    "empty": ("", "not a CSV table: it is empty"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_table(folder: Path, kind: str) -> None:
    content, problem = BAD_TABLES[kind]
    table = folder / "cohort.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CohortError) as caught:
        raise_problems(build_manifest(cohort(folder, {"layout": "csv", "folder": folder, "file": table}))[1])
    assert problem in str(caught.value)


def test_a_folder_in_place_of_a_table(folder: Path) -> None:
    with pytest.raises(CohortError, match=r"good cannot be read \(Is a directory\)"):
        build_manifest(cohort(folder, {"layout": "csv", "folder": folder, "file": folder / "good"}))


ENTRY = {"image": "good/image.nii.gz", "label": "good/seg.nii.gz"}
TASK: dict[str, Any] = {"modality": {"0": "MRI"}, "training": [ENTRY]}
NO_TASK = "is not a Decathlon description"
BAD_DESCRIPTIONS: dict[str, tuple[Any, str]] = {
    "no JSON": (b'{"modality":', "is not valid JSON"),
    "JSON nested deep": (b"[" * 100_000, "is not valid JSON"),
    "bytes": (b"\xff\x00", "is not valid JSON"),
    "a list": ([TASK], NO_TASK),
    "nnU-Net's": ({"channel_names": {"0": "MRI"}, "numTraining": 1, "file_ending": ".nii.gz"}, NO_TASK),
    "modality a list": (TASK | {"modality": ["MRI"]}, NO_TASK),
    "no modality": (TASK | {"modality": {}}, NO_TASK),
    "training of names": (TASK | {"training": ["good"]}, NO_TASK),
    "entry without label": (TASK | {"training": [{"image": "a.nii"}]}, NO_TASK),
    "training empty": (TASK | {"training": []}, "holds no subject"),
    "entry twice": (TASK | {"training": [ENTRY, ENTRY]}, "is listed more than once"),
    "path upwards": (TASK | {"training": [ENTRY | {"image": "../x.nii"}]}, "path leaves the cohort's folder"),
    "absolute path": (TASK | {"training": [ENTRY | {"label": "/etc/x.nii"}]}, "path leaves the cohort's folder"),
    "missing file": (TASK | {"training": [ENTRY | {"image": "x.nii"}]}, "missing file"),
    "more modalities than channels": (TASK | {"modality": {"0": "T1", "1": "T2"}}, "no such channel"),
}


@pytest.mark.parametrize("kind", BAD_DESCRIPTIONS)
def test_bad_description(folder: Path, kind: str) -> None:
    content, problem = BAD_DESCRIPTIONS[kind]
    (folder / "dataset.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(CohortError) as caught:
        raise_problems(build_manifest(cohort(folder, {"layout": "decathlon", "folder": folder}))[1])
    assert problem in str(caught.value)


def test_bad_split_names(folder: Path) -> None:
    manifest = build_manifest(cohort(folder))[0]
    grid = GridParameters(n_train=[1], n_splits=1, n_test=1, test_set=["good", "gone"], set_aside=["good"])
    told = " ".join(check_splits(manifest, grid)["problem"])
    for problem in ("is in grid.test_set but not in", "both name good", "0 remain; 1 are needed"):
        assert problem in told


def test_the_same_scan_in_both_cohorts(folder: Path, tmp_path: Path) -> None:
    add(tmp_path / "other", "patient 1", seed=1)
    add(tmp_path / "other", "patient 2", seed=2)
    source, target = (build_manifest(cohort(place))[0] for place in (folder, tmp_path / "other"))
    (problem,) = find_overlap(source, target)
    assert (problem.subject, problem.problem) == ("patient 1", "has the same image content as good of the source.")


def test_what_is_unusual_but_right(tmp_path: Path) -> None:
    """Spaces, accents, links within the folder, a linked folder, other codes for sform than for qform."""
    root = tmp_path / "Studie 1 – Köln"
    add(root, "Jörg Ærø 01", seed=1)
    add(root, "患者 2", seed=2)
    linked = add(root, "linked", seed=3)
    shutil.move(linked / "image.nii.gz", root / "elsewhere.nii.gz")
    (linked / "image.nii.gz").symlink_to("../elsewhere.nii.gz")
    (add(root, "two spaces", seed=5) / "image.nii.gz").write_bytes(with_forms(shifted(9), sform_code=4))
    (tmp_path / "link").symlink_to(root)
    for folder in (root, tmp_path / "link"):
        manifest, problems = build_manifest(cohort(folder))
        assert problems.empty, problems.to_string()
        assert set(manifest["subject"]) == {"Jörg Ærø 01", "患者 2", "linked", "two spaces"}
        assert all(file.is_file() for row in manifest.to_dict("records") for file in resolve(row, folder)[0])


def test_headers_without_orientation_are_shown_as_such(folder: Path) -> None:
    bad = add(folder, "bad")
    for name, array in (("image", scan()), ("seg", mask())):
        (bad / f"{name}.nii.gz").write_bytes(nifti(array, None))
    assert build_manifest(cohort(folder))[0]["orientation"].tolist() == ["unknown", "LPS"]


def test_the_lists_are_long() -> None:
    lists = (BAD_IMAGES, BAD_MASKS, BAD_FOLDERS, BAD_TABLES, BAD_DESCRIPTIONS)
    assert sum(map(len, lists)) >= 90
