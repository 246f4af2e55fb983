"""The table of facts about a cohort: the first thing a user looks at."""

from __future__ import annotations

import hashlib
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dwp_kedro.cohorts.checks import (
    CohortError,
    Problem,
    find_duplicates,
    leads_out,
    leaves_folder,
    problems_table,
)
from dwp_kedro.cohorts.readers import SubjectFiles, list_subjects, reader_folder
from dwp_kedro.cohorts.subject_checks import (
    check_files,
    check_volumes,
    content_digest,
    join_values,
    read_files,
    without_channel,
)
from dwp_kedro.imaging.header_checks import has_orientation
from dwp_kedro.imaging.preprocessing import map_labels
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import CohortParameters
from dwp_kedro.progress import track

MANIFEST_COLUMNS = [
    "subject",
    "group",
    "images",
    "label",
    "shape",
    "spacing",
    "orientation",
    "intensities",
    "label_voxels",
    "label_ml",
    "label_values",
    "fingerprint",
    "image_content",
]
_FEW_VOXELS = 100


@dataclass(frozen=True)
class _Facts:
    """A manifest row, and what tells its label map from others."""

    row: dict[str, Any]
    label_content: str


def build_manifest(cohort: CohortParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every subject of a cohort and return its manifest and its problems.

    Columns of the manifest: subject, group, images (relative paths joined by "|"), label, shape, spacing (mm,
    or "unknown"), orientation ("unknown" where the header has none), intensities (lowest and highest of all
    channels), label_voxels (foreground after label mapping), label_ml (its volume; missing where the spacing is
    unknown), label_values (as in the file), fingerprint (first 16 hex digits of a SHA-256 over the files' bytes),
    image_content (the same over the images' voxels, however they are stored). Subjects with a problem are in the
    problems only; those in ``cohort.exclude`` are in neither.

    Raises:
        CohortError: There is no such cohort at all.

    """
    folder = reader_folder(cohort.reader)
    listed = list_subjects(cohort.reader)
    names = Counter(files.subject for files in listed)
    # Some file systems take such names for the same.
    alike = Counter(_alike(name) for name in names)
    problems = [
        Problem(name, "is in the cohort's exclude list but not in its folder.", "", "Correct or remove the name.")
        for name in cohort.exclude
        if name not in names
    ]
    wanted = [files for files in listed if files.subject not in cohort.exclude]
    facts: dict[str, _Facts] = {}
    for files in track(wanted, f"Reading cohort {cohort.name}"):
        found = check_files(
            files, folder, is_double=names[files.subject] > 1, is_alike=alike[_alike(files.subject)] > 1
        )
        if not found:
            described = _describe(files, folder, cohort)
            if isinstance(described, _Facts):
                facts[files.subject] = described
                continue
            found = described
        problems += found
    duplicates = find_duplicates(
        {subject: fact.row["image_content"] for subject, fact in facts.items()},
        {subject: fact.label_content for subject, fact in facts.items()},
    )
    problems += duplicates
    bad = {problem.subject for problem in duplicates}
    rows = [fact.row for subject, fact in facts.items() if subject not in bad]
    return pd.DataFrame(rows, columns=MANIFEST_COLUMNS), problems_table(cohort.name, problems)


def resolve(row: Mapping[str, Any], folder: Path) -> tuple[list[Path], Path]:
    """Return where a manifest row's channels and label lie, given the cohort's folder.

    Channel k of a 4D file is ``path#k``, as ``read_volume`` takes it.

    Raises:
        CohortError: A path would leave the folder, as it is written or through a symbolic link.

    """
    images, label = str(row["images"]).split("|"), str(row["label"])
    for path in (*images, label):
        if leaves_folder(path) or leads_out(path, folder):
            raise CohortError(
                f"Subject {row['subject']}: {path} leaves the cohort's folder {folder}. Run the pipeline "
                "data_processing again."
            )
    return [folder / image for image in images], folder / label


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _describe(files: SubjectFiles, folder: Path, cohort: CohortParameters) -> _Facts | list[Problem]:
    """Read a subject's files whole; return its facts, or what is wrong."""
    volumes, problems = read_files(files, folder)
    problems = problems or check_volumes(volumes, files, folder, cohort)
    if problems:
        return problems
    *images, label = volumes
    n_foreground = int(np.count_nonzero(map_labels(label.array, cohort.labels)))
    spacing = _spacing(cohort, images[0])
    image_content = content_digest(images)
    row = {
        "subject": files.subject,
        "group": files.group,
        "images": "|".join(files.images),
        "label": files.label,
        "shape": "x".join(str(side) for side in label.shape),
        "spacing": "unknown" if spacing is None else "x".join(str(round(side, 4)) for side in spacing),
        "orientation": images[0].orientation if has_orientation(images[0]) else "unknown",
        "intensities": f"{min(v.array.min() for v in images):g} to {max(v.array.max() for v in images):g}",
        "label_voxels": n_foreground,
        "label_ml": _volume(n_foreground, spacing),
        "label_values": join_values(np.unique(label.array)),
        "fingerprint": _fingerprint(files, folder),
        "image_content": image_content,
    }
    # A few voxels may be the same in two label maps by chance.
    is_small = n_foreground < _FEW_VOXELS
    return _Facts(row, os.path.realpath(folder / files.label) if is_small else content_digest([label]))


def _spacing(cohort: CohortParameters, volume: Volume) -> tuple[float, float, float] | None:
    """Voxel size of a volume, mm, as its cohort declares it; None if that is unknown."""
    if cohort.spacing == "unknown":
        return None
    return volume.spacing if cohort.spacing == "header" else cohort.spacing


def _volume(n_voxels: int, spacing: tuple[float, float, float] | None) -> float | None:
    """Volume of so many voxels, ml."""
    return None if spacing is None else round(n_voxels * math.prod(spacing) / 1000, 4)


def _fingerprint(files: SubjectFiles, folder: Path) -> str:
    """Return the first 16 hex digits of a SHA-256 over the bytes of the images' files and the label's."""
    digest = hashlib.sha256()
    for path in [*dict.fromkeys(without_channel(image) for image in files.images), files.label]:
        with (folder / path).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
