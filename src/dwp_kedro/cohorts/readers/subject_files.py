"""The value that every reader ends in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dwp_kedro.cohorts.checks import CohortError, Problem, name_some

NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class SubjectFiles:
    """Where one subject's files lie, with what went wrong in finding them.

    ``images`` (one per channel) and ``label`` are relative to the cohort's folder, with forward slashes;
    channel k of a 4D file is written ``path#k``. What could not be found is left out or empty, and is in
    ``problems``.
    """

    subject: str
    group: str
    images: tuple[str, ...]
    label: str
    problems: tuple[Problem, ...] = ()


def require_folder(folder: Path, contents: str) -> None:
    """Check that a cohort's folder is there.

    Raises:
        CohortError: It is not; the message says that ``contents`` belong there and how to point elsewhere.

    """
    if not folder.is_dir():
        raise CohortError(
            f"The folder {folder} is missing. Put {contents} there, or say where your data lie: data_root in "
            "conf/base/globals.yml (or your environment's), the environment variable DWP_DATA_ROOT, or "
            "kedro run --params data_root=FOLDER."
        )


def list_folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` by name, without hidden ones and those that archivers leave behind."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    )


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return all files under ``folder`` whose names end in one of ``suffixes``, without hidden ones."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in sorted(names)
            if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return found


def choose_one(
    subject: str, candidates: Sequence[str], wanted: str, missing_mend: str
) -> tuple[str, list[Problem]]:
    """Return the one candidate, or "" and the problem that there is none or several.

    ``wanted`` names the file in words; ``missing_mend`` says what to do when there is none.
    """
    if len(candidates) == 1:
        return candidates[0], []
    if not candidates:
        return "", [Problem(subject, f"no {wanted}.", "", missing_mend)]
    problem = f"{len(candidates)} files could be the {wanted}: {name_some(candidates)}."
    return "", [Problem(subject, problem, "", "Keep one of them.")]
