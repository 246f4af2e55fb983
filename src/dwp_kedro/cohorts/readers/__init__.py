"""Readers of cohorts as people have them; all end in a list of :class:`SubjectFiles`."""

from __future__ import annotations

from pathlib import Path

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.phantom import list_phantom, write_phantom
from dwp_kedro.cohorts.readers.brats import read_brats
from dwp_kedro.cohorts.readers.csv_manifest import read_csv_manifest
from dwp_kedro.cohorts.readers.decathlon import read_decathlon
from dwp_kedro.cohorts.readers.subject_files import SubjectFiles
from dwp_kedro.cohorts.readers.subject_folders import read_subject_folders
from dwp_kedro.parameters import BratsReader, CsvReader, DecathlonReader, PhantomReader, Reader

__all__ = ["SubjectFiles", "list_subjects", "reader_folder"]


def reader_folder(reader: Reader) -> Path:
    """Return the folder that the paths in :class:`SubjectFiles` are relative to."""
    return reader.folder


def list_subjects(reader: Reader) -> list[SubjectFiles]:
    """Return the files of every subject of a cohort, by name; a phantom is written first where it is absent.

    What is wrong with single subjects is kept in their ``problems``.

    Raises:
        CohortError: There is no such cohort, or it has no subject.

    """
    if isinstance(reader, PhantomReader):
        write_phantom(reader)
        subjects = [SubjectFiles(name, "", (image,), label) for name, image, label in list_phantom(reader)]
    elif isinstance(reader, BratsReader):
        subjects = read_brats(reader)
    elif isinstance(reader, DecathlonReader):
        subjects = read_decathlon(reader)
    elif isinstance(reader, CsvReader):
        subjects = read_csv_manifest(reader)
    else:
        subjects = read_subject_folders(reader)
    if not subjects:
        raise CohortError(f"{reader.folder} holds no subject in the layout '{reader.layout}'.")
    return sorted(subjects, key=lambda files: files.subject)
