"""Which subjects train, which test and which are set aside, per split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from dwp_kedro.cohorts.checks import CohortError, Problem, name_some, problems_table
from dwp_kedro.parameters import GridParameters

SPLIT_COLUMNS = ["split", "subject", "role", "rank"]


def make_splits(subjects: Sequence[str], grid: GridParameters) -> pd.DataFrame:
    """Return the splits as a table with the columns split, subject, role, rank.

    A split is a draw of the training volumes; there are as many as the train size with the most of them needs.
    Per split, subjects are permuted by a generator seeded with (``split_seed``, split). If the test set is
    named, all others (the pool) are ranked for training. Else the first ``n_test`` are the test set (a fixed
    test set is drawn once, with ``split_seed`` alone), and the rest is ranked. So the training subset of size
    n, rank < n, holds every smaller one. Subjects set aside are in neither. The table depends on the set of
    subjects, not on their order.

    Raises:
        CohortError: A subject is named twice, one in set_aside or test_set is unknown or in both, or there are
            too few subjects.

    """
    if problems := find_split_problems(subjects, grid):
        told = " ".join(f"{p.subject} {p.problem} {p.mend}".strip() for p in problems)
        raise CohortError(f"The target cohort cannot be split as the grid asks: {told}")
    named_test = grid.test_set if isinstance(grid.test_set, list) else []
    drawn_from = sorted(set(subjects) - set(grid.set_aside) - set(named_test))
    fixed_test = set(np.random.default_rng(grid.split_seed).permutation(drawn_from)[: grid.n_test])
    rows: list[tuple[int, str, str, int]] = []
    for split in range(grid.most_splits):
        order = [str(name) for name in np.random.default_rng((grid.split_seed, split)).permutation(drawn_from)]
        if named_test:
            train, test = order, sorted(set(named_test))
        else:
            chosen = set(order[: grid.n_test]) if grid.test_set == "per_split" else fixed_test
            train = [subject for subject in order if subject not in chosen]
            test = [subject for subject in order if subject in chosen]
        roles = {"train": train, "test": test, "set_aside": sorted(set(grid.set_aside))}
        for role, members in roles.items():
            rows += [(split, subject, role, rank) for rank, subject in enumerate(members)]
    return pd.DataFrame(rows, columns=SPLIT_COLUMNS)


def training_subjects(splits: pd.DataFrame, split: int, n_train: int) -> list[str]:
    """Return the first ``n_train`` training subjects of a split, in rank order.

    Raises:
        CohortError: The table has fewer of them.

    """
    chosen = _members(splits, split, "train")[:n_train]
    if len(chosen) < n_train:
        raise CohortError(
            f"Split {split} has {len(chosen)} training subjects and grid.n_train asks for {n_train}: the table of "
            "splits was made for another grid. Run the pipeline data_processing again."
        )
    return chosen


def scored_subjects(splits: pd.DataFrame, split: int, scored_on: Literal["test", "set_aside"]) -> list[str]:
    """Return the subjects of a split that are scored: its test set, or those set aside for choosing recipes.

    Raises:
        CohortError: The table has none for this split.

    """
    chosen = _members(splits, split, scored_on)
    if not chosen:
        raise CohortError(
            f"Split {split} has no subjects in the role '{scored_on}' (grid.scored_on): the table of splits was "
            "made for another grid. Run the pipeline data_processing again."
        )
    return chosen


def check_splits(manifest: pd.DataFrame, grid: GridParameters, cohort: str = "target") -> pd.DataFrame:
    """Return the problems that keep ``manifest`` from being split as ``grid`` asks, as a table."""
    return problems_table(cohort, find_split_problems(manifest["subject"].tolist(), grid))


def find_split_problems(subjects: Sequence[str], grid: GridParameters) -> list[Problem]:
    """List all that keeps ``subjects`` from being split as ``grid`` asks.

    A split needs the largest n_train, and n_test unless the test set is named, beside the subjects that are
    set aside or named for testing.
    """
    present = set(subjects)
    named = {"set_aside": set(grid.set_aside)}
    if isinstance(grid.test_set, list):
        named["test_set"] = set(grid.test_set)
    problems = [
        Problem(name, "is named more than once.", "", "Give every subject its own name.")
        for name in sorted(present)
        if list(subjects).count(name) > 1
    ]
    for parameter, names in named.items():
        problems += [
            Problem(name, f"is in grid.{parameter} but not in the cohort.", "", "Correct or remove the name.")
            for name in sorted(names - present)
        ]
    if both := sorted(named["set_aside"] & named.get("test_set", set())):
        problem = f"grid.set_aside and grid.test_set both name {name_some(both)}."
        problems.append(Problem("", problem, "", "Leave each name in one of them."))
    remaining = len(present.difference(*named.values()))
    largest = max(grid.n_train)
    needed, parts, to_lower = largest, f"train {largest}", "n_train"
    if "test_set" not in named:
        needed, parts, to_lower = needed + grid.n_test, f"{parts} + test {grid.n_test}", "n_train or n_test"
    if remaining < needed:
        counts = " and ".join(f"{len(present & names)} in {parameter}" for parameter, names in named.items())
        problem = f"Of {len(present)} subjects, {counts}, {remaining} remain; {needed} are needed ({parts})."
        problems.append(Problem("", problem, "", f"Add subjects, or lower grid.{to_lower}."))
    return problems


def _members(splits: pd.DataFrame, split: int, role: str) -> list[str]:
    chosen = splits[(splits["split"] == split) & (splits["role"] == role)]
    return chosen.sort_values("rank")["subject"].astype(str).tolist()
