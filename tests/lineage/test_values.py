from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dwp_kedro.lineage.values import differences, fingerprint, plain
from dwp_kedro.parameters import ComputeParameters, GridParameters, PhantomReader


@dataclass(frozen=True)
class Cell:
    method: str
    seeds: tuple[int, ...]


def test_values_become_plain_json():
    assert plain({"cell": Cell("dwp", (1, 2)), "place": Path("a/b"), 5: {1}}) == {
        "cell": {"method": "dwp", "seeds": [1, 2]},
        "place": "a/b",
        "5": [1],
    }


def test_parameters_keep_what_results_depend_on():
    assert plain(ComputeParameters(state_folder=Path("x"), device="cuda:1")) == {"precision": "auto"}
    reader = PhantomReader(layout="phantom", folder=Path("x"), disease="tumour", n_subjects=3)
    assert plain(reader) == {"layout": "phantom", "disease": "tumour", "n_subjects": 3, "seed": 0}
    grid = plain(GridParameters(n_train=[5], n_splits={5: 10}))
    assert grid["n_splits"] == {"5": 10}
    assert grid["reference"] is None


def test_every_value_that_differs_is_named_once():
    before = {"rate": 0.1, "schedule": {"steps": 4, "kind": "cosine"}, "old": [1, 2]}
    now = {"rate": 0.1, "schedule": {"steps": 5, "kind": "cosine"}, "new": None}
    assert list(differences(before, now, "training")) == [
        "training.schedule.steps: 4 → 5",
        "training.old: [1, 2] → absent",
        "training.new: absent → null",
    ]
    assert list(differences(before, dict(reversed(before.items())), "training")) == []


def test_a_fingerprint_is_of_the_value():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
