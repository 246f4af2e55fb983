"""What can be wrong with a cohort, told for all subjects at once and before anything trains."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dwp_kedro.printable import printable

_MOST_LISTED = 30
PROBLEM_COLUMNS = ["cohort", "subject", "problem", "file", "mend"]


class CohortError(ValueError):
    """A cohort that cannot be used as it is; the message says what to do."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend; ``subject`` is empty where the whole cohort is meant."""

    subject: str
    problem: str
    file: str
    mend: str


def problems_table(cohort: str, problems: Iterable[Problem]) -> pd.DataFrame:
    """Return the problems as a table with the columns cohort, subject, problem, file, mend; all printable."""
    rows = [[printable(text) for text in (cohort, p.subject, p.problem, p.file, p.mend)] for p in problems]
    return pd.DataFrame(rows, columns=PROBLEM_COLUMNS, dtype=str)


def raise_problems(*tables: pd.DataFrame) -> None:
    """Raise one error that lists the rows of the problem tables, 30 at most; do nothing if they are empty.

    Raises:
        CohortError: There is a problem.

    """
    lines = []
    for row in pd.concat(tables).fillna("").itertuples():
        where = " · ".join(part for part in (row.cohort, row.subject, row.file) if part)
        lines.append(f"  {where}: {row.problem} {row.mend}")
    n_problems = len(lines)
    left = n_problems - _MOST_LISTED
    if left > 0:
        lines[_MOST_LISTED:] = [f"  … and {left} more, all in the table problems.csv"]
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{n_problems} problems"
        raise CohortError(
            f"The cohorts have {count}; nothing was trained.\n"
            + "\n".join(lines)
            + "\nMend them, or leave subjects out by name in the cohort's 'exclude' list; then run again."
        )


def leaves_folder(path: str) -> bool:
    """Say whether a path written relative to a cohort's folder points out of it."""
    parts = path.replace("\\", "/")
    has_drive = len(parts) > 1 and parts[1] == ":"
    return has_drive or posixpath.isabs(parts) or posixpath.normpath(parts).split("/")[0] == ".."


def leads_out(path: str, folder: Path) -> bool:
    """Say whether a path below a cohort's folder is, or goes through, a symbolic link that leads out of it."""
    real = os.path.realpath(folder / path)
    return not Path(real).is_relative_to(os.path.realpath(folder))


def find_duplicates(images: Mapping[str, str], labels: Mapping[str, str]) -> list[Problem]:
    """List every subject (key) whose image or label map (values, digests) another subject has too.

    Subjects of which both are the same are listed once.
    """
    one_scan = "One scan under two names may be trained on and tested on: keep one of them."
    one_label = "A label map belongs to one scan: find the one that is missing, or exclude the subject."
    found = {}
    for contents, what, mend in ((labels, "label map", one_label), (images, "image content", one_scan)):
        subjects_by_content: dict[str, list[str]] = {}
        for subject, content in contents.items():
            subjects_by_content.setdefault(content, []).append(subject)
        for same in subjects_by_content.values():
            for subject in same if len(same) > 1 else []:
                others = name_some([other for other in same if other != subject])
                found[subject] = Problem(subject, f"has the same {what} as {others}.", "", mend)
    return [found[subject] for subject in images if subject in found]


def find_overlap(source: pd.DataFrame, target: pd.DataFrame) -> list[Problem]:
    """List the subjects of the ``target`` manifest whose image is in the ``source`` manifest, too."""
    in_source = dict(zip(source["image_content"], source["subject"], strict=True))
    mend = "Source networks would be trained on what is tested on: exclude it from one of the cohorts."
    return [
        Problem(row["subject"], f"has the same image content as {in_source[content]} of the source.", "", mend)
        for row in target.to_dict("records")
        if (content := row["image_content"]) in in_source
    ]


def name_some(names: Sequence[str], most: int = 5) -> str:
    """Join names for a message, the first ``most`` of them.

    >>> name_some(["a", "b", "c"], most=2)
    'a, b, and 1 more'
    """
    rest = len(names) - most
    return _join(names[:most]) + (f", and {rest} more" if rest > 0 else "")


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)
