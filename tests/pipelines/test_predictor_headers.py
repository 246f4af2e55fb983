"""What a predictor makes of a scan's header: its spacing, its name, and what cannot be a volume."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bright_blob import RADIUS, centred, distances, make_predictor, store, two_class_scan

from dwp_kedro.imaging.volume import VolumeError


@pytest.mark.parametrize(("spacing", "unit", "voxel"), [("unknown", "voxel", 1.0), ((1.0, 1.0, 10.0), "ml", 0.01)])
def test_volumes_are_as_true_as_the_declared_spacing(tmp_path: Path, spacing: Any, unit: str, voxel: float):
    store(tmp_path / "scan.nii", (30, 30, 30), centred(np.eye(3), (30, 30, 30)))
    grid = {"preprocessing": {"grid": [32, 32, 32], "fit": "resample", "foreground_threshold": None}}
    predictor = make_predictor(spacing=spacing, **grid)
    segmentation = predictor.segment([tmp_path / "scan.nii"])
    [row] = predictor.rows("scan", segmentation, 1.0)
    assert (row["volume"], row["volume_unit"]) == (pytest.approx(segmentation.mask.sum() * voxel), unit)
    assert row["mean_uncertainty"] is None


@pytest.mark.parametrize(
    ("cohort", "said", "taken", "note"),
    [
        ("header", None, 2 * 2 * 1.5, ""),
        ("header", "unknown", None, ""),
        ("header", (2.0, 2.0, 3.0), 2 * 2 * 3, "taken as 2 × 2 × 3 mm, as new_scans.spacing says; the header"),
        ((2.0, 2.0, 3.0), None, 2 * 2 * 3, "as the training cohort declared; the header says 2 × 2 × 1.5 mm"),
        ((2.0, 2.0, 1.501), None, 2 * 2 * 1.501, ""),
        ((2.0, 2.0, 3.0), "header", 2 * 2 * 1.5, ""),
        ("unknown", None, None, ""),
        ("unknown", "header", 2 * 2 * 1.5, ""),
    ],
)
def test_new_scans_have_a_spacing_of_their_own(
    tmp_path: Path, cohort: Any, said: Any, taken: float | None, note: str, caplog: pytest.LogCaptureFixture
):
    predictor, segmentation = two_class_scan(tmp_path, cohort, spacing=said)
    for row, value in zip(predictor.rows("scan", segmentation, 1.0), (1, 2), strict=True):
        count = int((segmentation.mask == value).sum())
        assert row["volume"] == pytest.approx(count if taken is None else count * taken / 1000)
        assert row["volume_unit"] == ("voxel" if taken is None else "ml")
        assert note in row["note"]
        assert bool(row["note"]) == bool(note)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == (
        [f"scan.nii: {segmentation.note}"] if note else []
    )


def test_the_headers_spacing_finds_the_blob_where_the_declared_one_does_not(tmp_path: Path):
    """What the network sees is resampled by the spacing in use, not by that of its cohort."""
    scan = store(tmp_path / "scan.nii", (30, 30, 30), centred(np.diag([2.0, 2.0, 1.5]), (30, 30, 30)))
    away = distances((30, 30, 30), scan.affine)
    volume = 4 / 3 * math.pi * RADIUS**3 / 1000

    def found(**new_scans: Any) -> float:
        predictor = make_predictor(spacing=(2.0, 2.0, 6.0), new_scans=new_scans)
        segmentation = predictor.segment([tmp_path / "scan.nii"])
        assert not segmentation.mask[away > RADIUS + 4].any()
        [row] = predictor.rows("scan", segmentation, 1.0)
        return float(row["volume"])

    assert found(spacing="header") == pytest.approx(volume, rel=0.1)
    assert found() > 2 * volume


@pytest.mark.parametrize(("name", "other"), [("scan.nii.gz", "OTHER.NII.GZ"), ("scan.nii", "OTHER.NII")])
def test_upper_case_names_are_as_good(tmp_path: Path, name: str, other: str):
    store(tmp_path / name, (20, 20, 20), centred(np.diag([2.0, 2.0, 2.0]), (20, 20, 20)))
    shutil.copy(tmp_path / name, tmp_path / other)
    expected, same = (make_predictor().segment([tmp_path / file]) for file in (name, other))
    assert expected.mask.any()
    assert np.array_equal(same.mask, expected.mask)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((16, 0, 16), r"declares the shape \(16, 0, 16\)"),
        ((16, 16), r"2D, of shape \(16, 16\), where 3D is meant"),
        ((16, 16, 1), "a slice, no volume"),
        ((16, 16, 16, 2), r"name one channel of it \(file\.nii\.gz#0\)"),
    ],
)
def test_what_is_no_volume_is_refused_by_name(tmp_path: Path, shape: tuple[int, ...], message: str):
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), tmp_path / "scan.nii")
    with pytest.raises(VolumeError, match=rf"scan\.nii: .*{message}"):
        make_predictor().segment([tmp_path / "scan.nii"])


def test_a_header_that_contradicts_itself_is_refused_unless_its_spacing_is_replaced(tmp_path: Path):
    image = store(tmp_path / "scan.nii", (20, 20, 20), centred(np.eye(3) * 2, (20, 20, 20)))
    image.header["pixdim"][3] = 7
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), tmp_path / "scan.nii")
    with pytest.raises(VolumeError, match="or say it in the parameter spacing"):
        make_predictor().segment([tmp_path / "scan.nii"])
    make_predictor(new_scans={"spacing": (2.0, 2.0, 2.0)}).segment([tmp_path / "scan.nii"])
