"""CSV tables that users write, of cohorts and of new scans."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from dwp_kedro.cohorts.checks import CohortError


def read_csv_table(file: Path) -> pd.DataFrame:
    """Read a table as text, without spaces around it; what is absent is "".

    Commas or semicolons separate; a byte order mark is tolerated.

    Raises:
        CohortError: The file is missing, or no CSV table in UTF-8.

    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            header = stream.readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        table = pd.read_csv(
            file, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
        )
    except FileNotFoundError as error:
        raise CohortError(f"{file} is missing. Write it, or correct the path that names it.") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise CohortError(f"{file} is not a CSV table in UTF-8: {error}") from error
    table.columns = [column.strip() for column in table.columns]
    # Rows that are too short have missing values even so.
    return table.fillna("").apply(lambda column: column.str.strip())


def find_image_columns(columns: list[str]) -> list[str]:
    """Return the columns of a scan's channels: image, or image_0, image_1, …; none if there is a gap."""
    if "image" in columns:
        return ["image"]
    numbers = sorted(int(match[1]) for column in columns if (match := re.fullmatch(r"image_(\d+)", column)))
    found = [f"image_{number}" for number in range(len(numbers))]
    return found if all(column in columns for column in found) else []
