"""One subject of a manifest: its scans, its own grid, its own labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dwp_kedro.cohorts.manifest import resolve
from dwp_kedro.cohorts.readers import reader_folder
from dwp_kedro.imaging.preprocessing import declared_affine, map_labels
from dwp_kedro.imaging.volume import Volume, read_volume
from dwp_kedro.parameters import CohortParameters


def read_subject(row: Mapping[str, Any], cohort: CohortParameters) -> tuple[list[Volume], Volume]:
    """Open the channels and the label map of a manifest row; voxels are read on first use."""
    images, label = resolve(row, reader_folder(cohort.reader))
    return [read_volume(image) for image in images], read_volume(label, label=True)


def own_grid(row: Mapping[str, Any], cohort: CohortParameters) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine (4, 4) of a subject's own grid, with the spacing the cohort declares."""
    image = read_subject(row, cohort)[0][0]
    return image.shape, declared_affine(image, cohort.spacing)


def own_labels(row: Mapping[str, Any], cohort: CohortParameters) -> np.ndarray:
    """Label map of a subject on its own grid, mapped to 0 (background), 1, 2, … ; uint8."""
    return map_labels(read_subject(row, cohort)[1].array, cohort.labels)


def present_classes(row: Mapping[str, Any], cohort: CohortParameters) -> list[str]:
    """Names of the classes that a subject's own labels hold, in the order of their values; "" for others."""
    if not isinstance(cohort.labels, dict):
        return cohort.class_names  # a manifest lists no subject with an empty mask
    values = {int(float(value)) for value in str(row["label_values"]).split()}
    return [name if values.intersection(members) else "" for name, members in cohort.labels.items()]


def cohort_fingerprint(subjects: pd.DataFrame, cohort: CohortParameters) -> str:
    """Hash of the cohort's files and of what was done to them; 16 hex digits.

    It changes with any file, with the list of subjects and with the preprocessing, and names none of them.
    """
    digest = hashlib.sha256()
    for row in subjects.sort_values("subject").itertuples():
        digest.update(f"{row.subject}:{row.fingerprint};".encode())
    digest.update(cohort.model_dump_json(include={"spacing", "labels", "preprocessing"}).encode())
    return digest.hexdigest()[:16]
