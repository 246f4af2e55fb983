from __future__ import annotations

import hashlib

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.splits import check_splits, make_splits, scored_subjects, training_subjects
from dwp_kedro.parameters import GridParameters

SUBJECTS = [f"s{number:02d}" for number in range(30)]
NAMED_TEST = ["s05", "s01", "s20", "s11"]


def grid(**changes: object) -> GridParameters:
    values = {"n_train": [2, 5], "n_splits": 3, "n_test": 10} | changes
    return GridParameters.model_validate(values)


grids = st.builds(
    grid,
    n_train=st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True),
    n_splits=st.integers(1, 4),
    n_test=st.integers(1, 12),
    test_set=st.sampled_from(["per_split", "fixed", ["s28", "s29", "s27"]]),
    set_aside=st.lists(st.sampled_from(SUBJECTS[:27]), max_size=6, unique=True),
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
    for split in range(grid.most_splits):
        rows = splits[splits["split"] == split]
        assert sorted(rows["subject"]) == SUBJECTS
        for _, members in rows.groupby("role"):
            assert sorted(members["rank"]) == list(range(len(members)))
        test = scored_subjects(splits, split, "test")
        assert len(test) == (3 if isinstance(grid.test_set, list) else grid.n_test)
        smaller: list[str] = []
        for n_train in sorted(grid.n_train):
            train = training_subjects(splits, split, n_train)
            assert len(set(train)) == n_train
            assert train[: len(smaller)] == smaller
            assert not set(train) & set(test)
            assert not (set(train) | set(test)) & set(grid.set_aside)
            smaller = train


@pytest.mark.parametrize(
    ("test_set", "digest"),
    [
        ("per_split", "a41a514093fbd380d43b784f935e9a4726a02c27931a7f5cf858423bda779903"),
        ("fixed", "387ab25a808442d5b83c5a2486c84719c3e356bf2bc177eceb626f82dc235e97"),
    ],
)
def test_drawn_test_sets_stay_what_they_were(test_set: str, digest: str) -> None:
    splits = make_splits(SUBJECTS, grid(test_set=test_set, set_aside=["s03", "s07"], split_seed=4))
    assert hashlib.sha256(splits.to_csv(index=False).encode()).hexdigest() == digest


def test_new_test_set_per_split_or_one_for_all() -> None:
    per_split = make_splits(SUBJECTS, grid())
    fixed = make_splits(SUBJECTS, grid(test_set="fixed"))
    assert len({frozenset(scored_subjects(per_split, split, "test")) for split in range(3)}) == 3
    assert len({frozenset(scored_subjects(fixed, split, "test")) for split in range(3)}) == 1
    assert len({tuple(training_subjects(fixed, split, 5)) for split in range(3)}) == 3


def test_named_subjects_are_the_test_set_of_all_splits_whatever_n_test_says() -> None:
    named = grid(test_set=NAMED_TEST, set_aside=["s02", "s00"], n_test=1000)
    splits = make_splits(SUBJECTS, named)
    pool = set(SUBJECTS) - set(NAMED_TEST) - {"s00", "s02"}
    for split in range(3):
        assert scored_subjects(splits, split, "test") == sorted(NAMED_TEST)
        assert scored_subjects(splits, split, "set_aside") == ["s00", "s02"]
        assert set(training_subjects(splits, split, 24)) == pool
    assert len({tuple(training_subjects(splits, split, 5)) for split in range(3)}) == 3
    others = make_splits(SUBJECTS, named.model_copy(update={"split_seed": 1}))
    assert training_subjects(others, 0, 5) != training_subjects(splits, 0, 5)


def test_every_subject_of_the_pool_is_drawn_equally_often() -> None:
    splits = make_splits(SUBJECTS, grid(test_set=SUBJECTS[:10], n_splits=900))
    drawn = [subject for split in range(900) for subject in training_subjects(splits, split, 5)]
    counts = pd.Series(drawn).value_counts()
    # Binomial(900, 5/20): mean 225, standard deviation 13.
    assert sorted(counts.index) == SUBJECTS[10:]
    assert counts.between(225 - 5 * 13, 225 + 5 * 13).all()


def test_there_are_as_many_splits_as_the_train_size_with_the_most_needs() -> None:
    splits = make_splits(SUBJECTS, grid(n_splits={2: 4, 5: 2}))
    assert sorted(splits["split"].unique()) == [0, 1, 2, 3]
    first = splits[splits["split"] < 2]
    pd.testing.assert_frame_equal(first, make_splits(SUBJECTS, grid(n_splits=2)))


def test_seed_decides() -> None:
    first, second = (scored_subjects(make_splits(SUBJECTS, grid(split_seed=seed)), 0, "test") for seed in (0, 1))
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
    with pytest.raises(CohortError, match=r"14 remain; 15 are needed \(train 5 \+ test 10\).*n_train or n_test"):
        make_splits(SUBJECTS[:14], grid())
    with pytest.raises(CohortError, match="1 in set_aside, 14 remain; 15 are needed"):
        make_splits(SUBJECTS[:15], grid(set_aside=["s03"]))
    with pytest.raises(CohortError, match=r"who is in grid\.set_aside but not in the cohort"):
        make_splits(SUBJECTS, grid(set_aside=["who"]))
    with pytest.raises(CohortError, match="s00 is named more than once"):
        make_splits([*SUBJECTS, "s00"], grid())


def test_impossible_named_test_sets_are_refused_with_all_that_is_wrong() -> None:
    make_splits(SUBJECTS[:10], grid(test_set=SUBJECTS[:5]))
    with pytest.raises(CohortError, match=r"0 in set_aside and 6 in test_set, 4 remain; 5 are needed \(train 5\)"):
        make_splits(SUBJECTS[:10], grid(test_set=SUBJECTS[:6]))
    with pytest.raises(CohortError) as caught:
        make_splits(SUBJECTS, grid(test_set=["s01", "s02", "who"], set_aside=["s02", "nobody"]))
    message = str(caught.value)
    assert "who is in grid.test_set but not in the cohort" in message
    assert "nobody is in grid.set_aside but not in the cohort" in message
    assert "grid.set_aside and grid.test_set both name s02." in message


def test_a_table_made_for_another_grid_is_refused() -> None:
    splits = make_splits(SUBJECTS, grid())
    with pytest.raises(CohortError, match=r"has 20 training subjects and grid\.n_train asks for 21"):
        training_subjects(splits, 0, 21)
    with pytest.raises(CohortError, match=r"Split 3 has no subjects in the role 'test' \(grid\.scored_on\)"):
        scored_subjects(splits, 3, "test")
    with pytest.raises(CohortError, match="Split 0 has no subjects in the role 'set_aside'"):
        scored_subjects(splits, 0, "set_aside")


def test_problems_are_listed_for_the_manifest() -> None:
    manifest = pd.DataFrame({"subject": SUBJECTS})
    assert check_splits(manifest, grid()).empty
    (row,) = check_splits(manifest[:14], grid(), "glioma").to_dict("records")
    assert row["cohort"] == "glioma"
    assert row["problem"] == ("Of 14 subjects, 0 in set_aside, 14 remain; 15 are needed (train 5 + test 10).")
    (row,) = check_splits(manifest, grid(set_aside=["s99"])).to_dict("records")
    assert (row["subject"], row["mend"]) == ("s99", "Correct or remove the name.")
