"""Which subjects train and which test, per split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dwp_kedro.cohorts.checks import CohortError, find_shortage
from dwp_kedro.parameters import GridParameters

SPLIT_COLUMNS = ["split", "subject", "role", "rank"]


def make_splits(subjects: Sequence[str], grid: GridParameters) -> pd.DataFrame:
    """Return the splits as a table with the columns split, subject, role, rank.

    Per split, subjects are permuted by a generator seeded with (``split_seed``, split). The first ``n_test``
    are the test set (a fixed test set is drawn once, with ``split_seed`` alone); all others are ranked for
    training, so that the training subset of size n, rank < n, holds every smaller one. Subjects set aside are
    in neither. The table depends on the set of subjects, not on their order.

    Raises:
        CohortError: A subject is named twice, a subject set aside is unknown, or there are too few subjects.

    """
    pool = sorted(set(subjects) - set(grid.set_aside))
    _check(subjects, pool, grid)
    fixed_test = set(np.random.default_rng(grid.split_seed).permutation(pool)[: grid.n_test])
    rows: list[tuple[int, str, str, int]] = []
    for split in range(grid.n_splits):
        order = [str(subject) for subject in np.random.default_rng((grid.split_seed, split)).permutation(pool)]
        test = set(order[: grid.n_test]) if grid.test_set == "per_split" else fixed_test
        roles = {
            "train": [subject for subject in order if subject not in test],
            "test": [subject for subject in order if subject in test],
            "set_aside": sorted(set(grid.set_aside)),
        }
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
            f"Split {split} has {len(chosen)} training subjects, {n_train} are asked for. Make the splits "
            "anew: kedro run --pipeline data_processing"
        )
    return chosen


def test_subjects(splits: pd.DataFrame, split: int) -> list[str]:
    """Return the test subjects of a split.

    Raises:
        CohortError: The table has none for this split.

    """
    chosen = _members(splits, split, "test")
    if not chosen:
        raise CohortError(
            f"The table of splits has no split {split}. Make the splits anew: kedro run --pipeline data_processing"
        )
    return chosen


# The name is the field's word, not a test.
test_subjects.__test__ = False  # type: ignore[attr-defined]


def _members(splits: pd.DataFrame, split: int, role: str) -> list[str]:
    chosen = splits[(splits["split"] == split) & (splits["role"] == role)]
    return chosen.sort_values("rank")["subject"].astype(str).tolist()


def _check(subjects: Sequence[str], pool: list[str], grid: GridParameters) -> None:
    if len(set(subjects)) < len(subjects):
        twice = sorted({subject for subject in subjects if list(subjects).count(subject) > 1})
        raise CohortError(f"Subjects named more than once: {', '.join(twice)}. Give every subject its own name.")
    if unknown := sorted(set(grid.set_aside) - set(subjects)):
        raise CohortError(f"Subjects set aside that are not in the cohort: {', '.join(unknown)}.")
    if shortage := find_shortage(len(pool), grid):
        raise CohortError(f"Too few subjects for the splits: {shortage} Lower n_train or n_test, or add subjects.")
