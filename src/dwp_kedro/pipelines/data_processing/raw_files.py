"""Which files of a cohort its results depend on."""

from __future__ import annotations

from pathlib import Path

from dwp_kedro.cohorts.phantom import list_phantom
from dwp_kedro.cohorts.readers import list_subjects
from dwp_kedro.cohorts.subject_checks import without_channel
from dwp_kedro.parameters import CohortParameters, CsvReader, DecathlonReader, PhantomReader


def raw_files(cohort: CohortParameters) -> dict[str, Path]:
    """Return where a cohort's files lie, by their names in its folder; nothing if there is no such folder.

    They are those of all its subjects, and the table or description that lists these. Some may not be there.

    Raises:
        CohortError: the folder is no cohort.
    """
    reader = cohort.reader
    if isinstance(reader, PhantomReader):  # which is written when it is read
        names = {file for _, *files in list_phantom(reader) for file in files}
    elif reader.folder.is_dir():
        subjects = [files for files in list_subjects(reader) if files.subject not in cohort.exclude]
        names = {without_channel(name) for files in subjects for name in (*files.images, files.label) if name}
    else:
        return {}
    found = {name: reader.folder / name for name in sorted(names)}
    if isinstance(reader, CsvReader):
        found["the table of the cohort"] = reader.file
    elif isinstance(reader, DecathlonReader):
        found["dataset.json"] = reader.folder / "dataset.json"
    return found
