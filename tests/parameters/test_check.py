from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from dwp_kedro.parameters.check import dotted, find_problems, list_problems
from dwp_kedro.settings import CONFIG_LOADER_ARGS

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    """The parameters of conf/base, which are right."""
    return dict(OmegaConfigLoader(str(REPOSITORY / "conf"), env="base", **CONFIG_LOADER_ARGS)["parameters"])


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the parameters with another value at a dotted path."""
    first, _, rest = path.partition(".")
    return {**base, first: changed(base.get(first) or {}, rest, value) if rest else value}


def told(parameters: dict[str, Any]) -> dict[str, str]:
    return {problem.name: problem.text for problem in find_problems(parameters)}


def test_right_parameters_have_no_problem(base: dict[str, Any]):
    assert find_problems(base) == []
    assert find_problems({**base, "_anchors": {"of": "YAML"}, "data_root": "/x"}, ignored=["data_root"]) == []


TARGET = "data_processing.target"
READER = {"layout": "brats", "folder": "x", "channels": ["t2"]}


@pytest.mark.parametrize(
    ("path", "value", "name", "words"),
    [
        (
            "target_training.schedule.max_steps",
            -3,
            "",
            ["given -3", "greater than or equal to 1", "Optimiser steps"],
        ),
        ("grid.n_train", [3, "x"], "grid.n_train[1]", ['given "x"', "a whole number"]),
        ("grid.n_trian", [3], "", ["no such parameter", "did you mean n_train?"]),
        ("target_trainig", {}, "", ["no such parameter", "did you mean target_training?"]),
        ("n_samples", 3, "", ["did you mean prediction.n_samples or new_scans.n_samples?"]),
        ("target_training.estimator", "weight_sample", "", ["Did you mean weight_samples?"]),
        ("source_training.schedule.max_steps", None, "", ["the cosine schedule needs its length"]),
        ("network", 3, "", ["given 3", "a block of names and values"]),
        (f"{TARGET}.name", None, "", ["given null", "text"]),
        (f"{TARGET}.exclude", ["a", 4], f"{TARGET}.exclude[1]", ["given 4", "text, in quotes"]),
        ("grid.n_test", True, "", ["given true", "yes, no, on, off", "Subjects in the test set"]),
        ("grid.n_train", [3, False], "grid.n_train[1]", ["given false"]),
        ("target_training.temperature", float("nan"), "", ["a finite number", "no prior"]),
        ("target_training.schedule.learning_rate", 30, "", ["less than or equal to 1"]),
        # A voxel of 1 mm, written in metres and in micrometres.
        (f"{TARGET}.preprocessing.spacing", [1, 1, 1e-3], f"{TARGET}.preprocessing.spacing[2]", ["0.005", "mm"]),
        (f"{TARGET}.spacing", [1000, 1, 1], f"{TARGET}.spacing[0]", ["less than or equal to 50", "mm"]),
        (f"{TARGET}.labels", {"core": [1], "rim": []}, f"{TARGET}.labels", ["without label values"]),
        (f"{TARGET}.labels", [], f"{TARGET}.labels", ["without label values"]),
        (f"{TARGET}.labels", 0, f"{TARGET}.labels", ["0 is the background"]),
        ("volume_suffix", "nii", "", ["'.nii.gz' or '.nii'", "Did you mean .nii?"]),
        (f"{TARGET}.reader.layout", "brat", "", ['given "brat"', "Did you mean brats?"]),
        (f"{TARGET}.reader", {**READER, "chanels": []}, f"{TARGET}.reader.chanels", ["did you mean channels?"]),
        (f"{TARGET}.reader", {"layout": "brats", "folder": "x"}, f"{TARGET}.reader.channels", ["is missing"]),
        # A union says what each of its branches wants, in one problem.
        (f"{TARGET}.spacing", "heder", "", ["'header' or 'unknown'", "a list", "Did you mean header?"]),
        # The branch that goes deepest is the one that was meant.
        (f"{TARGET}.labels", {"core": [1, "x"]}, f"{TARGET}.labels.core[1]", ["a whole number"]),
        ("methods.pr", {"start": "sauce"}, "methods.pr.start", ["Did you mean source?"]),
        ("methods.pr", {"start": "source", "layer": 1}, "methods.pr.layer", ["no such parameter"]),
        ("methods", {"Ri": {"start": "he"}}, "methods.Ri", ["pattern"]),
        ("grid", {"methods": ["ri", "ri"]}, "grid.methods", ["names a value twice"]),
    ],
)
def test_one_problem_per_wrong_value(base: dict[str, Any], path: str, value: Any, name: str, words: list[str]):
    problems = told(changed(base, path, value))
    assert list(problems) == [name or path]
    assert all(word in problems[name or path] for word in words), problems


def test_truth_values_stay_where_they_belong(base: dict[str, Any]):
    for path in ("prior_learning.carry_source_network", "target_training.train_encoder", "new_scans.pictures"):
        assert told(changed(base, path, True)) == {}
    method = {"start": "prior", "prior": "deep_weight_prior", "target_training": {"train_encoder": False}}
    assert told(changed(base, "methods.dwp", method)) == {}


def test_only_the_chosen_layout_is_thought_of(base: dict[str, Any]):
    # "file" is the csv reader's, and nearer than any name that brats has.
    problems = told(changed(base, f"{TARGET}.reader", {**READER, "fiel": "x"}))
    assert "file?" not in problems[f"{TARGET}.reader.fiel"]


def test_what_is_missing_under_a_misspelt_name_is_told_once(base: dict[str, Any]):
    reader = {"layout": "brats", "folder": "x", "chanels": ["t2"]}
    assert list(told(changed(base, f"{TARGET}.reader", reader))) == [f"{TARGET}.reader.chanels"]


def test_a_learnt_prior_needs_a_source_cohort(base: dict[str, Any]):
    target = {"data_processing": {"target": base["data_processing"]["target"]}}
    assert "name a colleague's prior" in told({**base, **target})["data_processing.source"]
    assert find_problems({**base, **target, "prior": "colleague.safetensors"}) == []


def test_all_problems_are_in_one_message_with_their_places(base: dict[str, Any]):
    problems = find_problems(changed(changed(base, "grid.n_test", 0), "network.channels", [1, 2]))
    message = list_problems(problems, lambda path: f"{dotted(path[:1])}.yml")
    first, *lines = message.splitlines()
    assert first == "2 parameters are wrong; nothing was run."
    assert [line.split(":")[0].strip() for line in lines] == [
        "network.channels in network.yml",
        "grid.n_test in grid.yml",
    ]
