"""What can be wrong with a cohort, told for all subjects at once and before anything trains."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

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
    """Return the problems as a table with the columns cohort, subject, problem, file, mend."""
    rows = [[cohort, p.subject, p.problem, p.file, p.mend] for p in problems]
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


def find_duplicates(contents: dict[str, str]) -> list[Problem]:
    """List every subject (key) whose image content (value, a digest) another subject has too."""
    subjects_by_content: dict[str, list[str]] = {}
    for subject, content in contents.items():
        subjects_by_content.setdefault(content, []).append(subject)
    return [
        Problem(
            subject,
            f"has the same image content as {_join(other for other in same if other != subject)}.",
            "",
            "One scan under two names may be trained on and tested on: keep one of them.",
        )
        for same in subjects_by_content.values()
        if len(same) > 1
        for subject in same
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
