"""Reader of a CSV manifest written by the user."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pandas as pd

from dwp_kedro.cohorts.checks import CohortError, Problem
from dwp_kedro.cohorts.readers.subject_files import SubjectFiles, require_folder
from dwp_kedro.parameters import CsvReader


def read_csv_manifest(reader: CsvReader) -> list[SubjectFiles]:
    """List the rows of a CSV file with the columns subject, image (or image_0, image_1, …), label, group.

    Only group may be absent.
    Commas or semicolons separate; a byte order mark is tolerated. Paths are relative to ``reader.folder``.

    Raises:
        CohortError: The file or folder is missing, unreadable, or lacks a column.

    """
    require_folder(reader.folder, "the files that your CSV manifest names")
    table = _load(reader.file)
    image_columns = _find_image_columns(list(table.columns))
    missing = [column for column in ("subject", "label") if column not in table.columns]
    if missing or not image_columns:
        raise CohortError(
            f"{reader.file} has the columns {', '.join(table.columns)}; it needs subject, image (or image_0, "
            "image_1, … without gaps), label, and may have group. Columns are parted by , or ;"
        )
    return [_read_row(row, image_columns) for row in table.to_dict("records")]


def _load(file: Path) -> pd.DataFrame:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            header = stream.readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        table = pd.read_csv(
            file, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
        )
    except FileNotFoundError as error:
        raise CohortError(f"{file} is missing. Write it, or correct 'file' in the cohort's reader.") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CohortError(f"{file} is not a CSV table in UTF-8: {error}") from error
    table.columns = [column.strip() for column in table.columns]
    # Rows that are too short have missing values even so.
    return table.fillna("").apply(lambda column: column.str.strip())


def _find_image_columns(columns: list[str]) -> list[str]:
    if "image" in columns:
        return ["image"]
    numbers = sorted(int(match[1]) for column in columns if (match := re.fullmatch(r"image_(\d+)", column)))
    found = [f"image_{number}" for number in range(len(numbers))]
    return found if all(column in columns for column in found) else []


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
