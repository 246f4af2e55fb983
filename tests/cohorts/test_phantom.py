from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as connected_components

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.phantom import make_phantom_subject, write_phantom
from dwp_kedro.imaging.volume import Volume, read_volume
from dwp_kedro.parameters import PhantomReader

N_SUBJECTS = 8


@pytest.fixture(scope="module")
def cohorts() -> dict[str, list[tuple[Volume, Volume]]]:
    return {
        disease: [make_phantom_subject(disease, 0, index) for index in range(N_SUBJECTS)]
        for disease in ("plaques", "tumour")
    }


def best_threshold_dsc(image: np.ndarray, label: np.ndarray) -> float:
    """DSC of the best of all masks ``image > t``."""
    descending = label.ravel()[np.argsort(-image.ravel().astype(int), kind="stable")]
    hits, n_predicted = np.cumsum(descending), np.arange(1, label.size + 1)
    return float((2 * hits / (n_predicted + label.sum())).max())


@pytest.mark.parametrize(
    ("disease", "orientation", "least", "most"),
    [("plaques", "LPS", 0.004, 0.035), ("tumour", "PIR", 0.005, 0.08)],
)
def test_scans_are_labelled_and_no_threshold_finds_the_disease(
    cohorts: dict[str, list[tuple[Volume, Volume]]], disease: str, orientation: str, least: float, most: float
) -> None:
    scores = []
    for image, label in cohorts[disease]:
        assert image.orientation == orientation
        np.testing.assert_array_equal(image.affine, label.affine)
        assert image.array.dtype == np.int16
        assert set(np.unique(label.array)) == {0, 1}
        assert least < label.array.mean() < most
        scores.append(best_threshold_dsc(image.array, label.array))
    assert 0.1 < np.mean(scores) < 0.6


def test_diseases_differ_in_number_and_thickness_of_slices(
    cohorts: dict[str, list[tuple[Volume, Volume]]],
) -> None:
    n_blobs = {
        disease: [connected_components(label.array)[1] for _, label in scans] for disease, scans in cohorts.items()
    }
    sizes = [np.bincount(connected_components(label.array)[0].ravel())[1:] for _, label in cohorts["tumour"]]
    assert np.mean(n_blobs["plaques"]) > 5
    # One tumour; specks that ventricles or folds cut off are small.
    assert all(size.max() > 0.9 * size.sum() for size in sizes)
    source, target = cohorts["plaques"][0][0], cohorts["tumour"][0][0]
    assert source.spacing[2] > 1.9 * source.spacing[0]
    assert max(target.spacing) < 1.1 * min(target.spacing)


def test_disease_is_brighter_than_the_tissue_around_it(
    cohorts: dict[str, list[tuple[Volume, Volume]]],
) -> None:
    for scans in cohorts.values():
        for image, label in scans:
            inside = label.array == 1
            around = binary_dilation(inside, iterations=2) & ~inside
            assert image.array[inside].mean() > 1.15 * image.array[around].mean()


def test_head_is_centred_in_scanner_space(cohorts: dict[str, list[tuple[Volume, Volume]]]) -> None:
    for scans in cohorts.values():
        for image, _ in scans:
            bright = np.argwhere(image.array > 0.3 * np.percentile(image.array, 95))
            head = apply_affine(image.affine, bright)
            middle = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
            assert np.abs(head.mean(axis=0) - middle).max() < 8
            # Taller from front to back than from side to side, whatever the order of the axes.
            assert head.std(axis=0)[1] > 1.1 * head.std(axis=0)[0]


def reader(folder: Path, **changes: Any) -> PhantomReader:
    values = {"layout": "phantom", "folder": folder, "disease": "tumour", "n_subjects": 2} | changes
    return PhantomReader.model_validate(values)


def test_subject_depends_on_seed_disease_and_index_alone(tmp_path: Path) -> None:
    write_phantom(reader(tmp_path / "one"))
    write_phantom(reader(tmp_path / "two", n_subjects=3))
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.nii.gz"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    arrays = [make_phantom_subject("tumour", *key)[0].array for key in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_files_say_what_was_made(tmp_path: Path) -> None:
    write_phantom(reader(tmp_path))
    for path, made in zip(("image", "label"), make_phantom_subject("tumour", 0, 1), strict=True):
        read = read_volume(tmp_path / "tumour_001" / f"tumour_001_{path}.nii.gz", label=path == "label")
        np.testing.assert_array_equal(read.array, made.array)
        np.testing.assert_allclose(read.affine, made.affine, atol=1e-4)


def test_only_absent_files_are_written(tmp_path: Path) -> None:
    write_phantom(reader(tmp_path))
    kept, lost = (tmp_path / name / f"{name}_label.nii.gz" for name in ("tumour_000", "tumour_001"))
    os.utime(kept, (1, 1))
    lost.unlink()
    write_phantom(reader(tmp_path))
    assert kept.stat().st_mtime == 1
    assert lost.is_file()


@pytest.mark.parametrize("changes", [{"seed": 1}, {"disease": "plaques"}])
def test_another_phantom_is_not_mixed_in(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_phantom(reader(tmp_path))
    with pytest.raises(CohortError, match="holds another phantom"):
        write_phantom(reader(tmp_path, **changes))
