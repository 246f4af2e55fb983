"""What can be wrong with one subject: with its name and paths, its files, and the voxels in them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from dwp_kedro.cohorts.checks import Problem, leads_out, leaves_folder
from dwp_kedro.cohorts.readers import SubjectFiles
from dwp_kedro.imaging.header_checks import VolumeError, check_placement
from dwp_kedro.imaging.preprocessing import check_same_grid, map_labels
from dwp_kedro.imaging.volume import Volume, read_volume
from dwp_kedro.parameters import CohortParameters
from dwp_kedro.printable import is_printable

_LONGEST_NAME = 200  # bytes: file systems allow 255, of which what we add takes some
_MOST_VALUES, _MOST_VALUES_NAMED = 64, 1024  # of a label map: all above 0, or those that matter named
_MOST_VOXELS = 2**30
_MOST_LISTED = 10


def without_channel(path: str) -> str:
    """Return the file of a channel ``path#k``."""
    return re.sub(r"(\.nii(?:\.gz)?)#\d+$", r"\1", path)


def check_files(files: SubjectFiles, folder: Path, *, is_double: bool, is_alike: bool) -> list[Problem]:
    """Return what is wrong before any file is opened."""
    subject, problems = files.subject, list(files.problems)
    if is_double:
        problems.append(Problem(subject, "is listed more than once.", "", "Give every scan its own subject name."))
    if is_alike and not is_double:
        problem = "differs from another subject only in upper and lower case or in how accents are coded."
        problems.append(Problem(subject, problem, "", "Some systems take both for one file: rename one."))
    is_file_name = is_printable(subject) and len(subject.encode()) <= _LONGEST_NAME
    if not is_file_name or re.search(r'[/\\|:*?"<>]', subject) or subject.startswith("."):
        mend = "Use letters, digits, - and _: the name becomes part of file names."
        problems.append(Problem(subject, "has a name that cannot be a file name.", "", mend))
    paths = [*map(without_channel, files.images), *filter(None, [files.label])]
    for path in dict.fromkeys(paths):
        if leaves_folder(path):
            mend = "Write paths relative to the folder."
            problems.append(Problem(subject, "path leaves the cohort's folder.", path, mend))
        elif "|" in path or not is_printable(path):
            problem = "'|' or a control character in a path is not supported."
            problems.append(Problem(subject, problem, path, "Rename the file."))
        elif not (folder / path).is_file():
            problems.append(Problem(subject, "missing file.", path, "Put it there, or exclude the subject."))
        elif leads_out(path, folder):
            mend = "Put the file itself there, or let the cohort's folder be one that holds both."
            problems.append(Problem(subject, "a symbolic link leads out of the cohort's folder.", path, mend))
    return problems


def read_files(files: SubjectFiles, folder: Path) -> tuple[list[Volume], list[Problem]]:
    """Read the images and the label map of a subject whole; list what could not be read."""
    problems: list[Problem] = []
    volumes: list[Volume] = []
    for path in (*files.images, files.label):
        try:
            volume = read_volume(folder / path, label=path == files.label)
            _ = volume.array  # finds what only the voxels show: truncation, NaN, labels that are no integers
        except VolumeError as error:
            problems.append(_tell(files.subject, path, folder, error))
        else:
            volumes.append(volume)
    return volumes, problems


def check_volumes(
    volumes: Sequence[Volume], files: SubjectFiles, folder: Path, cohort: CohortParameters
) -> list[Problem]:
    """Return what is wrong with a subject's images and its label map, which is the last of ``volumes``."""
    subject, paths = files.subject, (*files.images, files.label)
    *images, label = volumes

    def refusals(check: Callable[[Volume], None]) -> list[Problem]:
        found = []
        for path, volume in zip(paths, volumes, strict=True):
            try:
                check(volume)
            except VolumeError as error:
                found.append(_tell(subject, path, folder, error))
        return found

    trusts_header = cohort.spacing == "header"
    problems = refusals(lambda volume: check_placement(volume, spacing_matters=trusts_header)) or refusals(
        lambda volume: check_same_grid([images[0], volume])
    )
    if problems:
        return problems
    for path, image in zip(files.images, images, strict=True):
        problems += [Problem(subject, *told) for told in _check_intensities(image, path, cohort)]
        if np.array_equal(image.array, label.array):
            mend = "Give each its own file: a network would be shown what it is to find."
            problems.append(Problem(subject, "image and label map are the same.", files.label, mend))
    problems += [Problem(subject, *told) for told in _check_labels(label.array, files.label, cohort)]
    return problems + [Problem(subject, *told) for told in _check_resampling(images[0], paths[0], cohort)]


def content_digest(volumes: Sequence[Volume]) -> str:
    """Return 16 hex digits of a SHA-256 over voxels, however they are named, typed, compressed and turned."""
    digest = hashlib.sha256()
    for volume in volumes:
        to_canonical = nib.orientations.io_orientation(volume.affine)
        array = nib.orientations.apply_orientation(volume.array, to_canonical)
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype=np.float32).data)
    return digest.hexdigest()[:16]


def join_values(values: Iterable[Any]) -> str:
    """Write numbers one after the other."""
    return " ".join(f"{value:g}" for value in values)


def _tell(subject: str, file: str, folder: Path, error: VolumeError) -> Problem:
    # Its message is "file: problem; what to do".
    problem, _, mend = str(error).removeprefix(f"{folder / file}: ").partition("; ")
    return Problem(subject, f"{problem}.", file, f"{mend[:1].upper()}{mend[1:]}.")


_Told = tuple[str, str, str]  # problem, file, mend


def _check_intensities(image: Volume, path: str, cohort: CohortParameters) -> list[_Told]:
    threshold, window = cohort.preprocessing.foreground_threshold, cohort.preprocessing.window
    inside = image.array if threshold is None else image.array[image.array > threshold]
    if inside.size == 0:
        mend = "Lower preprocessing.foreground_threshold, or replace the file."
        return [(f"no voxel is above {threshold:g}.", path, mend)]
    low, high = (float(np.clip(end, *window) if window else end) for end in (inside.min(), inside.max()))
    if low == high:
        mend = "Replace the file, or exclude the subject."
        return [(f"the image is constant ({low:g}) in its foreground.", path, mend)]
    return []


def _check_labels(array: np.ndarray, path: str, cohort: CohortParameters) -> list[_Told]:
    values = np.unique(array)
    listed = join_values(values[:_MOST_LISTED]) + (" …" if len(values) > _MOST_LISTED else "")
    n_foreground = int(np.count_nonzero(map_labels(array, cohort.labels)))
    is_named = cohort.labels != "above_zero"
    if len(values) > (_MOST_VALUES_NAMED if is_named else _MOST_VALUES):
        mend = "Give the label map, or name the values that count in labels."
        return [(f"{len(values)} different values: an image, no label map?", path, mend)]
    if n_foreground == 0:
        problem = f"empty mask: its values are {listed}, the cohort's labels {cohort.labels}."
        return [(problem, path, "Correct labels, or exclude the subject.")]
    if n_foreground == array.size:
        mend = "Write 0 where nothing is labelled, or name the values that count in labels."
        return [(f"all voxels are labelled, its values are {listed}.", path, mend)]
    if values[0] < 0 and not is_named:
        mend = "Write 0 where nothing is labelled, or name the values that count in labels."
        return [(f"the label map has values below 0: {listed}.", path, mend)]
    return []


def _check_resampling(image: Volume, path: str, cohort: CohortParameters) -> list[_Told]:
    """Find scans that their header makes so large that no memory would hold them at the cohort's spacing."""
    wanted = cohort.preprocessing.spacing
    if wanted is None or cohort.spacing == "unknown":
        return []
    own = image.spacing if cohort.spacing == "header" else cohort.spacing
    n_voxels = math.prod(side * mm / new for side, mm, new in zip(image.shape, own, wanted, strict=True))
    if n_voxels <= _MOST_VOXELS:
        return []
    problem = f"resampled to {join_values(wanted)} mm it would have {n_voxels:.2g} voxels."
    return [(problem, path, "Correct the voxel size in the header, or preprocessing.spacing.")]
