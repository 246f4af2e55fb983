from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.splits import make_splits, test_subjects, training_subjects
from dwp_kedro.parameters import GridParameters

SUBJECTS = [f"s{number:02d}" for number in range(30)]


def grid(**changes: object) -> GridParameters:
    values = {"n_train": [2, 5], "n_splits": 3, "n_test": 10} | changes
    return GridParameters.model_validate(values)


grids = st.builds(
    grid,
    n_train=st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True),
    n_splits=st.integers(1, 4),
    n_test=st.integers(1, 12),
    test_set=st.sampled_from(["per_split", "fixed"]),
    set_aside=st.lists(st.sampled_from(SUBJECTS), max_size=6, unique=True),
    split_seed=st.integers(0, 2**31),
)


@settings(max_examples=60, deadline=None)
@given(grid=grids, order=st.permutations(SUBJECTS))
def test_splits_are_disjoint_nested_complete_and_independent_of_order(
    grid: GridParameters, order: list[str]
) -> None:
    splits = make_splits(order, grid)
    pd.testing.assert_frame_equal(splits, make_splits(SUBJECTS, grid))
    assert list(splits.columns) == ["split", "subject", "role", "rank"]
    for split in range(grid.n_splits):
        rows = splits[splits["split"] == split]
        assert sorted(rows["subject"]) == SUBJECTS
        for _, members in rows.groupby("role"):
            assert sorted(members["rank"]) == list(range(len(members)))
        test = test_subjects(splits, split)
        assert len(test) == grid.n_test
        smaller: list[str] = []
        for n_train in sorted(grid.n_train):
            train = training_subjects(splits, split, n_train)
            assert len(set(train)) == n_train
            assert train[: len(smaller)] == smaller
            assert not set(train) & set(test)
            assert not (set(train) | set(test)) & set(grid.set_aside)
            smaller = train


def test_new_test_set_per_split_or_one_for_all() -> None:
    per_split = make_splits(SUBJECTS, grid())
    fixed = make_splits(SUBJECTS, grid(test_set="fixed"))
    assert len({frozenset(test_subjects(per_split, split)) for split in range(3)}) == 3
    assert len({frozenset(test_subjects(fixed, split)) for split in range(3)}) == 1
    assert len({tuple(training_subjects(fixed, split, 5)) for split in range(3)}) == 3


def test_seed_decides() -> None:
    first, second = (test_subjects(make_splits(SUBJECTS, grid(split_seed=seed)), 0) for seed in (0, 1))
    assert set(first) != set(second)


def test_every_subject_is_tested_equally_often() -> None:
    splits = make_splits(SUBJECTS, grid(n_splits=900))
    counts = splits[splits["role"] == "test"].groupby("subject").size()
    # Binomial(900, 1/3): mean 300, standard deviation 14.
    assert len(counts) == 30
    assert counts.between(300 - 5 * 14, 300 + 5 * 14).all()


def test_table_survives_csv(tmp_path) -> None:  # type: ignore[no-untyped-def]
    splits = make_splits(SUBJECTS, grid())
    splits.to_csv(tmp_path / "splits.csv", index=False)
    read = pd.read_csv(tmp_path / "splits.csv")
    assert training_subjects(read, 1, 5) == training_subjects(splits, 1, 5)


def test_impossible_splits_are_refused() -> None:
    make_splits(SUBJECTS[:15], grid())
    with pytest.raises(CohortError, match=r"14 remain, 15 are needed \(train 5 \+ test 10\)"):
        make_splits(SUBJECTS[:14], grid())
    with pytest.raises(CohortError, match="14 remain, 15 are needed"):
        make_splits(SUBJECTS[:15], grid(set_aside=["s03"]))
    with pytest.raises(CohortError, match="not in the cohort: who"):
        make_splits(SUBJECTS, grid(set_aside=["who"]))
    with pytest.raises(CohortError, match="more than once: s00"):
        make_splits([*SUBJECTS, "s00"], grid())
    splits = make_splits(SUBJECTS, grid())
    with pytest.raises(CohortError, match="has 20 training subjects, 21 are asked for"):
        training_subjects(splits, 0, 21)
    with pytest.raises(CohortError, match="no split 3"):
        test_subjects(splits, 3)
