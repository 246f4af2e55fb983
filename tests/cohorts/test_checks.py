from __future__ import annotations

import pandas as pd
import pytest

from dwp_kedro.cohorts.checks import (
    CohortError,
    Problem,
    check_splits,
    find_duplicates,
    leaves_folder,
    problems_table,
    raise_problems,
)
from dwp_kedro.parameters import GridParameters


def grid(**changes: object) -> GridParameters:
    return GridParameters.model_validate({"n_train": [5, 20], "n_test": 10} | changes)


def manifest(count: int) -> pd.DataFrame:
    return pd.DataFrame({"subject": [f"s{number}" for number in range(count)]})


def test_too_few_subjects_for_the_splits() -> None:
    assert check_splits(manifest(30), grid()).empty
    (row,) = check_splits(manifest(29), grid()).to_dict("records")
    assert row["problem"] == (
        "29 usable subjects, 0 of them set aside: 29 remain, 30 are needed (train 20 + test 10)."
    )
    (row,) = check_splits(manifest(30), grid(set_aside=["s4"]), "glioma").to_dict("records")
    assert row["cohort"] == "glioma"
    assert "1 of them set aside: 29 remain" in row["problem"]


def test_unknown_subject_set_aside() -> None:
    (row,) = check_splits(manifest(30), grid(set_aside=["s99"])).to_dict("records")
    assert (row["subject"], row["mend"]) == ("s99", "Correct or remove the name.")


def test_one_error_tells_all_problems() -> None:
    first = problems_table("ms", [Problem("a", "missing file.", "a/x.nii", "Put it there.")])
    second = problems_table("glioma", [Problem("", "too few.", "", "Add some.")])
    with pytest.raises(CohortError) as caught:
        raise_problems(first, problems_table("empty", []), second)
    message = str(caught.value)
    assert "2 problems" in message
    assert "ms · a · a/x.nii: missing file. Put it there." in message
    assert "glioma: too few. Add some." in message
    raise_problems(problems_table("ms", []), problems_table("glioma", []))


def test_problems_survive_csv(tmp_path) -> None:  # type: ignore[no-untyped-def]
    problems_table("glioma", [Problem("", "too few.", "", "Add some.")]).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(CohortError, match="glioma: too few"):
        raise_problems(pd.read_csv(tmp_path / "p.csv"))


@pytest.mark.parametrize("path", ["/etc/x.nii", "../x.nii", "a/../../x.nii", "..", "C:/x.nii", "..\\x.nii"])
def test_paths_that_leave(path: str) -> None:
    assert leaves_folder(path)


@pytest.mark.parametrize("path", ["x.nii", "a/../x.nii", "./a/x.nii", "..a/x.nii", "a..b.nii"])
def test_paths_that_stay(path: str) -> None:
    assert not leaves_folder(path)


def test_duplicates_name_each_other() -> None:
    problems = find_duplicates({"a": "1", "b": "2", "c": "1", "d": "1"})
    assert [problem.subject for problem in problems] == ["a", "c", "d"]
    assert "as a, d." in problems[1].problem
