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
from bad_nifti import AFFINE, BAD_IMAGES, BAD_MASKS, SHAPE, enormous, mask, nifti, scan, shifted, with_forms

from dwp_kedro.cohorts.checks import CohortError, find_overlap, raise_problems
from dwp_kedro.cohorts.manifest import build_manifest, resolve
from dwp_kedro.cohorts.splits import check_splits
from dwp_kedro.parameters import CohortParameters, GridParameters


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
