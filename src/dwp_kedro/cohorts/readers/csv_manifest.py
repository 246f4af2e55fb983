"""Reader of a CSV manifest written by the user."""

from __future__ import annotations

import posixpath

from dwp_kedro.cohorts.checks import CohortError, Problem
from dwp_kedro.cohorts.readers.csv_table import find_image_columns, read_csv_table
from dwp_kedro.cohorts.readers.subject_files import SubjectFiles, require_folder
from dwp_kedro.parameters import CsvReader
from dwp_kedro.printable import printable


def read_csv_manifest(reader: CsvReader) -> list[SubjectFiles]:
    """List the rows of a CSV file with the columns subject, image (or image_0, image_1, …), label, group.

    Only group may be absent. Paths are relative to ``reader.folder``.

    Raises:
        CohortError: The file or folder is missing, unreadable, or lacks a column.

    """
    require_folder(reader.folder, "the files that your CSV manifest names")
    table = read_csv_table(reader.file)
    image_columns = find_image_columns(list(table.columns))
    missing = [column for column in ("subject", "label") if column not in table.columns]
    if missing or not image_columns:
        raise CohortError(
            f"{reader.file} has the columns {printable(', '.join(table.columns))}; it needs subject, image (or "
            "image_0, image_1, … without gaps), label, and may have group. Columns are parted by , or ;"
        )
    return [_read_row(row, image_columns) for row in table.to_dict("records")]


def _read_row(row: dict[str, str], image_columns: list[str]) -> SubjectFiles:
    subject = row["subject"]
    empty = [column for column in ("subject", *image_columns, "label") if not row[column]]
    problems = tuple(
        Problem(subject, f"a row has no {column}.", "", "Fill it in, or remove the row.") for column in empty
    )
    *images, label = (
        posixpath.normpath(row[column]) if row[column] else "" for column in (*image_columns, "label")
    )
    return SubjectFiles(subject, row.get("group", ""), tuple(filter(None, images)), label, problems)
