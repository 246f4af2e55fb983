from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.manifest import MANIFEST_COLUMNS, build_manifest, resolve
from dwp_kedro.imaging.volume import read_volume
from dwp_kedro.parameters import CohortParameters

LPS = np.diag([-1.0, -1.0, 5.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = LPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def add_subject(root: Path, subject: str, seed: int, affine: np.ndarray = LPS) -> None:
    rng = np.random.default_rng(seed)
    label = np.zeros((6, 7, 4), np.uint8)
    label[1:3, 2, 1], label[0, 0, 0] = 2, 4
    for channel in ("flair", "t1"):
        save(root / subject / f"{channel}.nii.gz", rng.normal(size=(6, 7, 4)).astype(np.float32), affine)
    save(root / subject / "seg.nii.gz", label, affine)


def cohort(folder: Path, **changes: Any) -> CohortParameters:
    values = {
        "name": "test",
        "description": "made up",
        "reader": {
            "layout": "subject_folders",
            "folder": folder,
            "channels": ["flair.nii.gz", "t1.nii.gz"],
            "label": "seg.nii.gz",
        },
        "preprocessing": {"grid": (16, 16, 16)},
    }
    return CohortParameters.model_validate(values | changes)


def problems_of(parameters: CohortParameters) -> dict[str, str]:
    """Problem and mend by subject; fails where a subject has two."""
    manifest, problems = build_manifest(parameters)
    assert not set(manifest["subject"]) & set(problems["subject"])
    assert problems["subject"].is_unique
    return {row.subject: f"{row.problem} {row.mend}" for row in problems.itertuples()}


def test_facts(tmp_path: Path) -> None:
    add_subject(tmp_path, "a", 1)
    manifest, problems = build_manifest(cohort(tmp_path))
    files = [tmp_path / "a" / name for name in ("flair.nii.gz", "t1.nii.gz", "seg.nii.gz")]
    scans = [read_volume(file).array for file in files[:2]]
    content = hashlib.sha256()
    for scan in scans:
        content.update(b"(6, 7, 4)" + np.ascontiguousarray(scan[::-1, ::-1]).tobytes())  # LPS in RAS
    assert problems.empty
    assert list(manifest.columns) == MANIFEST_COLUMNS
    assert (
        manifest.to_dict("records")
        == [
            {
                "subject": "a",
                "group": "",
                "images": "a/flair.nii.gz|a/t1.nii.gz",
                "label": "a/seg.nii.gz",
                "shape": "6x7x4",
                "spacing": "1.0x1.0x5.0",
                "orientation": "LPS",
                "intensities": f"{min(scan.min() for scan in scans):g} to {max(scan.max() for scan in scans):g}",
                "label_voxels": 3,
                "label_ml": 0.015,  # 3 voxels of 1 x 1 x 5 mm
                "label_values": "0 2 4",
                "fingerprint": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16],
                "image_content": content.hexdigest()[:16],
            }
        ]
    )
    images, label = resolve(manifest.iloc[0], tmp_path)
    assert [*images, label] == files


@pytest.mark.parametrize(
    ("labels", "voxels"),
    [("above_zero", 3), (4, 1), ([2, 4], 3), ({"rim": [2], "core": [4]}, 3), ([2, 9], 2)],
)
def test_foreground_counts_after_mapping(tmp_path: Path, labels: Any, voxels: int) -> None:
    add_subject(tmp_path, "a", 1)
    assert build_manifest(cohort(tmp_path, labels=labels))[0]["label_voxels"].tolist() == [voxels]


@pytest.mark.parametrize(
    ("spacing", "stated", "volume"), [("unknown", "unknown", None), ((1, 1, 2.5), "1.0x1.0x2.5", 0.0075)]
)
def test_declared_spacing_replaces_the_header(tmp_path: Path, spacing: Any, stated: str, volume: Any) -> None:
    add_subject(tmp_path, "a", 1)
    manifest = build_manifest(cohort(tmp_path, spacing=spacing))[0]
    assert manifest["spacing"].tolist() == [stated]
    assert manifest["label_ml"].tolist() == [volume]


def test_all_problems_are_found_in_one_go(tmp_path: Path) -> None:
    names = ["good", "shape", "affine", "near", "channel", "empty", "missing", "cut", "nan", "half"]
    names += ["twin_1", "twin_2"]
    for seed, name in enumerate(names):
        add_subject(tmp_path, name, seed)
    label = np.zeros((6, 7, 4), np.uint8)
    label[1, 1, 1] = 1
    shifted, near = LPS.copy(), LPS.copy()
    shifted[0, 3], near[0, 3] = 0.5, 0.05
    save(tmp_path / "shape" / "seg.nii.gz", np.ones((6, 7, 5), np.uint8))
    save(tmp_path / "affine" / "seg.nii.gz", label, shifted)
    save(tmp_path / "near" / "seg.nii.gz", label, near)
    save(tmp_path / "channel" / "t1.nii.gz", np.ones((6, 7, 4), np.float32), shifted)
    save(tmp_path / "empty" / "seg.nii.gz", np.zeros((6, 7, 4), np.uint8))
    (tmp_path / "missing" / "t1.nii.gz").unlink()
    (tmp_path / "cut" / "seg.nii.gz").write_bytes((tmp_path / "cut" / "seg.nii.gz").read_bytes()[:-30])
    save(tmp_path / "nan" / "seg.nii.gz", np.full((6, 7, 4), np.nan, np.float32))
    save(tmp_path / "half" / "seg.nii.gz", np.full((6, 7, 4), 0.5, np.float32))
    for channel in ("flair", "t1"):
        shutil.copy(tmp_path / "twin_1" / f"{channel}.nii.gz", tmp_path / "twin_2")
    # The same images under another label are the same patient all the same.
    save(tmp_path / "twin_2" / "seg.nii.gz", label)

    found = problems_of(cohort(tmp_path))

    expected = {
        "shape": "its grid is (6, 7, 5)",
        "affine": "voxels away from",
        "channel": "voxels away from",
        "empty": "empty mask: its values are 0",
        "missing": "no file for the pattern 't1.nii.gz'",
        "cut": "opy or download it again",
        "nan": "NaN",
        "half": "must hold integers",
        "twin_1": "same image content as twin_2",
        "twin_2": "same image content as twin_1",
    }
    assert found.keys() == expected.keys()
    for subject, part in expected.items():
        assert part in found[subject]
    assert build_manifest(cohort(tmp_path))[0]["subject"].tolist() == ["good", "near"]

    manifest, problems = build_manifest(cohort(tmp_path, exclude=[*expected, "stranger"]))
    assert manifest["subject"].tolist() == ["good", "near"]
    assert problems["subject"].tolist() == ["stranger"]


def test_csv_rows_that_leave_repeat_or_are_missing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for subject in ("a", "b"):
        add_subject(root, subject, ord(subject))
    row = "{0},{1}/flair.nii.gz,{1}/seg.nii.gz\n"
    (tmp_path / "c.csv").write_text(
        "subject,image,label\n"
        + row.format("a", "a")
        + row.format("a", "b")
        + row.format("out", "../root/a")
        + row.format("absolute", root / "a")
        + row.format("b/c", "b")
        + "gone,gone.nii.gz,b/seg.nii.gz\n"
    )
    reader = {"layout": "csv", "file": tmp_path / "c.csv", "folder": root}
    manifest, problems = build_manifest(cohort(root, reader=reader))
    assert manifest.empty
    by_subject = problems.groupby("subject")["problem"].agg(set).to_dict()
    assert by_subject == {
        "a": {"is listed more than once."},
        "out": {"path leaves the cohort's folder."},
        "absolute": {"path leaves the cohort's folder."},
        "b/c": {"has a name that cannot be a file name."},
        "gone": {"missing file."},
    }


def test_channel_of_a_4d_file(tmp_path: Path) -> None:
    array = np.arange(6 * 7 * 4 * 2, dtype=np.float32).reshape(6, 7, 4, 2)
    label = np.ones((6, 7, 4), np.uint8)
    label[0] = 0
    save(tmp_path / "imagesTr" / "x.nii.gz", array)
    save(tmp_path / "labelsTr" / "x.nii.gz", label)
    (tmp_path / "dataset.json").write_text(
        '{"modality": {"0": "a", "1": "b", "2": "c"},'
        '"training": [{"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}]}'
    )
    reader = {"layout": "decathlon", "folder": tmp_path, "channels": [1]}
    manifest, problems = build_manifest(cohort(tmp_path, reader=reader))
    assert problems.empty
    assert manifest["shape"].tolist() == ["6x7x4"]
    (image,), _ = resolve(manifest.iloc[0], tmp_path)
    np.testing.assert_array_equal(read_volume(image).array, array[..., 1])

    reader["channels"] = [2]
    (problem,) = build_manifest(cohort(tmp_path, reader=reader))[1]["problem"]
    assert problem == "no such channel in a file of shape (6, 7, 4, 2)."


@pytest.mark.parametrize("column", ["images", "label"])
def test_resolve_never_leaves_the_folder(tmp_path: Path, column: str) -> None:
    row = pd.Series({"subject": "a", "images": "a.nii|b.nii", "label": "c.nii"})
    row[column] = "a/../../x.nii"
    with pytest.raises(CohortError, match="leaves the cohort's folder"):
        resolve(row, tmp_path)


def test_real_sets(shared_data: Path) -> None:
    readers: list[tuple[dict[str, Any], int, str]] = [
        ({"layout": "decathlon", "folder": shared_data / "Task04_Hippocampus"}, 223, "1.0x1.0x1.0"),
        (
            {"layout": "brats", "folder": shared_data / "brats2021", "channels": ["t2", "flair"]},
            6,
            "1.0x1.0x1.0",
        ),
    ]
    for reader, count, spacing in readers:
        manifest, problems = build_manifest(cohort(shared_data, reader=reader))
        assert problems.empty, problems.to_string()
        assert len(manifest) == count
        assert set(manifest["spacing"]) == {spacing}
        assert manifest["fingerprint"].is_unique
        assert (manifest["label_voxels"] > 0).all()
