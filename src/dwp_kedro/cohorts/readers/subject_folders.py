"""Reader of one folder per subject, file names given by patterns."""

from __future__ import annotations

import glob
import posixpath
from pathlib import Path

from dwp_kedro.cohorts.checks import name_some
from dwp_kedro.cohorts.readers.subject_files import (
    NIFTI_SUFFIXES,
    SubjectFiles,
    choose_one,
    list_files,
    list_folders,
    require_folder,
)
from dwp_kedro.parameters import SubjectFoldersReader


def read_subject_folders(reader: SubjectFoldersReader) -> list[SubjectFiles]:
    """List the folders in the cohort's folder as subjects, each with the one file per pattern.

    In a pattern ``{subject}`` is the folder's name, ``*``, ``?`` and ``[…]`` are wildcards, and ``**``
    matches folders of any depth. Hidden files are not matched.

    Raises:
        CohortError: The folder is missing.

    """
    require_folder(reader.folder, "one folder per subject")
    return [_read_folder(reader, folder) for folder in list_folders(reader.folder)]


def _read_folder(reader: SubjectFoldersReader, folder: Path) -> SubjectFiles:
    subject = folder.name
    present = name_some([path.relative_to(folder).as_posix() for path in list_files(folder, NIFTI_SUFFIXES)])
    found, problems = [], []
    for pattern in (*reader.channels, reader.label):
        filled = pattern.replace("{subject}", glob.escape(subject))
        matches = sorted(
            posixpath.normpath(f"{subject}/{Path(name).as_posix()}")
            for name in glob.glob(filled, root_dir=folder, recursive=True)
            if (folder / name).is_file()
        )
        mend = (
            f"There are {present or 'no NIfTI files'}: add the file, correct the pattern, or exclude the subject."
        )
        path, missing = choose_one(subject, matches, f"file for the pattern '{pattern}'", mend)
        found.append(path)
        problems += missing
    *images, label = found
    return SubjectFiles(subject, "", tuple(filter(None, images)), label, tuple(problems))
