from __future__ import annotations

import pandas as pd
import pytest

from dwp_kedro.cohorts.checks import (
    CohortError,
    Problem,
    find_duplicates,
    leaves_folder,
    problems_table,
    raise_problems,
)


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
    labels = {"a": "1", "b": "2", "c": "3", "d": "4", "e": "2"}
    problems = find_duplicates({"a": "1", "b": "2", "c": "1", "d": "1", "e": "3"}, labels)
    assert [(problem.subject, problem.problem) for problem in problems] == [
        ("a", "has the same image content as c, d."),
        ("b", "has the same label map as e."),
        ("c", "has the same image content as a, d."),
        ("d", "has the same image content as a, c."),
        ("e", "has the same label map as b."),
    ]
