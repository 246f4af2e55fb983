"""CSV tables that users write, of cohorts and of new scans."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.printable import printable


def read_csv_table(file: Path) -> pd.DataFrame:
    """Read a table as text, without spaces around it; what is absent is "".

    Commas or semicolons separate; a byte order mark, empty rows and columns without a name are passed over.

    Raises:
        CohortError: The file is missing, no CSV table in UTF-8, or has a column twice or a row that is too long.

    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        separator = ";" if header.count(";") > header.count(",") else ","
        lines = [
            [cell.strip() for cell in line]
            for line in csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        ]
    except FileNotFoundError as error:
        raise CohortError(f"{file} is missing. Write it, or correct the path that names it.") from error
    except OSError as error:
        raise CohortError(f"{file} cannot be read ({error.strerror}). Give a CSV table.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CohortError(
            f"{file} is not a CSV table in UTF-8: {error}. Save it as 'CSV UTF-8' from the spreadsheet."
        ) from error
    if not lines:
        raise CohortError(f"{file} is not a CSV table: it is empty. Write it, or correct the path that names it.")
    columns, *rows = lines
    doubles = [name for name, count in Counter(filter(None, columns)).items() if count > 1]
    if doubles:
        raise CohortError(f"{file} has several columns {printable(', '.join(doubles))}. Leave one of each.")
    n = len(columns)
    for number, row in enumerate(rows, start=2):
        if any(row[n:]):
            raise CohortError(
                f"{file}, row {number}: {len(row)} cells under {n} columns. Put texts with a comma in quotes."
            )
    table = [row[:n] + [""] * (n - len(row)) for row in rows if any(row)]
    return pd.DataFrame(table, columns=columns, dtype=str).loc[:, [bool(name) for name in columns]]


def find_image_columns(columns: list[str]) -> list[str]:
    """Return the columns of a scan's channels: image, or image_0, image_1, …; none if there is a gap."""
    if "image" in columns:
        return ["image"]
    numbers = sorted(int(match[1]) for column in columns if (match := re.fullmatch(r"image_(\d+)", column)))
    found = [f"image_{number}" for number in range(len(numbers))]
    return found if all(column in columns for column in found) else []
