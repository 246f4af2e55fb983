"""The table of facts about a cohort: the first thing a user looks at."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dwp_kedro.cohorts.checks import (
    CohortError,
    Problem,
    find_duplicates,
    leaves_folder,
    problems_table,
)
from dwp_kedro.cohorts.readers import SubjectFiles, list_subjects, reader_folder
from dwp_kedro.imaging.preprocessing import check_same_grid, map_labels
from dwp_kedro.imaging.volume import Volume, VolumeError, read_volume
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
]


@dataclass(frozen=True)
class _Facts:
    """A manifest row and the digest of its images alone."""

    row: dict[str, Any]
    image_digest: str


def build_manifest(cohort: CohortParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every subject of a cohort and return its manifest and its problems.

    Columns of the manifest: subject, group, images (relative paths joined by "|"), label, shape, spacing (mm,
    or "unknown"), orientation, intensities (lowest and highest of all channels), label_voxels (foreground after
    label mapping), label_ml (its volume; missing where the spacing is unknown), label_values (as in the file),
    fingerprint (first 16 hex digits of a SHA-256 over the files' bytes). Subjects with a problem are in the
    problems only; those in ``cohort.exclude`` are in neither.

    Raises:
        CohortError: There is no such cohort at all.

    """
    folder = reader_folder(cohort.reader)
    listed = list_subjects(cohort.reader)
    names = Counter(files.subject for files in listed)
    problems = [
        Problem(name, "is in the cohort's exclude list but not in its folder.", "", "Correct or remove the name.")
        for name in cohort.exclude
        if name not in names
    ]
    wanted = [files for files in listed if files.subject not in cohort.exclude]
    facts: dict[str, _Facts] = {}
    for files in track(wanted, f"Reading cohort {cohort.name}"):
        found = _check_files(files, folder, is_double=names[files.subject] > 1)
        if not found:
            described = _describe(files, folder, cohort)
            if isinstance(described, _Facts):
                facts[files.subject] = described
                continue
            found = described
        problems += found
    duplicates = find_duplicates({subject: fact.image_digest for subject, fact in facts.items()})
    problems += duplicates
    bad = {problem.subject for problem in duplicates}
    rows = [fact.row for subject, fact in facts.items() if subject not in bad]
    return pd.DataFrame(rows, columns=MANIFEST_COLUMNS), problems_table(cohort.name, problems)


def resolve(row: Mapping[str, Any], folder: Path) -> tuple[list[Path], Path]:
    """Return where a manifest row's channels and label lie, given the cohort's folder.

    Channel k of a 4D file is ``path#k``, as ``read_volume`` takes it.

    Raises:
        CohortError: A path would leave the folder.

    """
    images, label = str(row["images"]).split("|"), str(row["label"])
    for path in (*images, label):
        if leaves_folder(path):
            raise CohortError(f"Subject {row['subject']}: {path} leaves the cohort's folder {folder}.")
    return [folder / image for image in images], folder / label


def without_channel(path: str) -> str:
    """Return the file of a channel ``path#k``."""
    return re.sub(r"(\.nii(?:\.gz)?)#\d+$", r"\1", path)


def _check_files(files: SubjectFiles, folder: Path, *, is_double: bool) -> list[Problem]:
    """Return what is wrong before any file is opened."""
    subject, problems = files.subject, list(files.problems)
    if is_double:
        problems.append(Problem(subject, "is listed more than once.", "", "Give every scan its own subject name."))
    if re.search(r'[/\\|:*?"<>]', subject) or subject.startswith("."):
        mend = "Use letters, digits, - and _: the name becomes part of file names."
        problems.append(Problem(subject, "has a name that cannot be a file name.", "", mend))
    paths = [*map(without_channel, files.images), *filter(None, [files.label])]
    for path in dict.fromkeys(paths):
        if leaves_folder(path):
            mend = "Write paths relative to the folder."
            problems.append(Problem(subject, "path leaves the cohort's folder.", path, mend))
        elif "|" in path:
            problems.append(Problem(subject, "'|' in a path is not supported.", path, "Rename the file."))
        elif not (folder / path).is_file():
            problems.append(Problem(subject, "missing file.", path, "Put it there, or exclude the subject."))
    return problems


def _describe(files: SubjectFiles, folder: Path, cohort: CohortParameters) -> _Facts | list[Problem]:
    """Read a subject's files whole; return its facts, or what is wrong."""
    subject = files.subject
    problems: list[Problem] = []
    volumes: list[Volume] = []
    for path in (*files.images, files.label):
        try:
            volume = read_volume(folder / path, label=path == files.label)
            _ = volume.array  # finds what only the voxels show: truncation, NaN, labels that are no integers
        except VolumeError as error:
            problems.append(_tell(subject, path, folder, error))
        else:
            volumes.append(volume)
    if problems:
        return problems
    *images, label = volumes
    for path, volume in zip((*files.images[1:], files.label), volumes[1:], strict=True):
        try:
            check_same_grid([images[0], volume])
        except VolumeError as error:
            problems.append(_tell(subject, path, folder, error))
    values = np.unique(label.array)
    n_foreground = int(np.count_nonzero(map_labels(label.array, cohort.labels)))
    if n_foreground == 0:
        problem = f"empty mask: its values are {_join(values)}, the cohort's labels {cohort.labels}."
        problems.append(Problem(subject, problem, files.label, "Correct labels, or exclude the subject."))
    if problems:
        return problems
    image_digest, fingerprint = _digests(files, folder)
    spacing = _spacing(cohort, images[0])
    row = {
        "subject": subject,
        "group": files.group,
        "images": "|".join(files.images),
        "label": files.label,
        "shape": "x".join(str(side) for side in label.shape),
        "spacing": "unknown" if spacing is None else "x".join(str(round(side, 4)) for side in spacing),
        "orientation": images[0].orientation,
        "intensities": f"{min(v.array.min() for v in images):g} to {max(v.array.max() for v in images):g}",
        "label_voxels": n_foreground,
        "label_ml": _volume(n_foreground, spacing),
        "label_values": _join(values),
        "fingerprint": fingerprint[:16],
    }
    return _Facts(row, image_digest)


def _tell(subject: str, file: str, folder: Path, error: VolumeError) -> Problem:
    # Its message is "file: problem; what to do".
    problem, _, mend = str(error).removeprefix(f"{folder / file}: ").partition("; ")
    return Problem(subject, f"{problem}.", file, f"{mend[:1].upper()}{mend[1:]}.")


def _spacing(cohort: CohortParameters, volume: Volume) -> tuple[float, float, float] | None:
    """Voxel size of a volume, mm, as its cohort declares it; None if that is unknown."""
    if cohort.spacing == "unknown":
        return None
    return volume.spacing if cohort.spacing == "header" else cohort.spacing


def _volume(n_voxels: int, spacing: tuple[float, float, float] | None) -> float | None:
    """Volume of so many voxels, ml."""
    return None if spacing is None else round(n_voxels * math.prod(spacing) / 1000, 4)


def _digests(files: SubjectFiles, folder: Path) -> tuple[str, str]:
    """Return SHA-256 digests of the images' bytes, and of the images' and the label's bytes."""
    digest = hashlib.sha256()
    for path in dict.fromkeys(without_channel(image) for image in files.images):
        _update(digest, folder / path)
    of_images = digest.hexdigest()
    _update(digest, folder / files.label)
    return of_images, digest.hexdigest()


def _update(digest: Any, path: Path) -> None:
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)


def _join(values: Iterable[Any]) -> str:
    return " ".join(f"{value:g}" for value in values)
