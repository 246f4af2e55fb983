"""Blocks that decide how large volumes are trained on and predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dwp_kedro.parameters import (
    InputParameters,
    PatchParameters,
    PredictionParameters,
    PreprocessingParameters,
)
from dwp_kedro.parameters.check import find_problems

BASE = Path(__file__).parents[2] / "conf" / "base"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grid": None, "fit": "resample"}, r"fit: resample needs a grid"),
        ({"grid": None, "window": [250, -175], "foreground_threshold": -500}, r"window: 250 is not below -175"),
        ({"grid": None, "window": [-175, 250]}, r"foreground_threshold: say .* −500 \(the body\) or null"),
        ({"grid": None, "window": [-175, 250], "foreground_threshold": 300}, r"300 is not below .* 250"),
        ({}, r"grid"),
    ],
)
def test_preprocessing_steps_that_contradict_each_other_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        PreprocessingParameters.model_validate(values)


@pytest.mark.parametrize("threshold", [-500, None])
def test_a_window_goes_with_any_foreground_that_is_named(threshold: float | None):
    given = {"grid": None, "window": [-175, 250], "foreground_threshold": threshold}
    parameters = PreprocessingParameters.model_validate(given)
    assert PreprocessingParameters.model_validate(parameters.model_dump(mode="json")) == parameters


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": [20, 32, 32]}, "multiple of 8"),
        ({"size": [8, 32, 32]}, "greater than or equal to 16"),
        ({"size": [32, 32, 32], "positive": 0, "negative": 0}, "no patch"),
        ({"size": [32, 32, 32], "positive": -1}, "greater than or equal to 0"),
    ],
)
def test_patches_that_cannot_be_taken_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        PatchParameters.model_validate(values)


def test_windows_are_auto_whole_or_a_size():
    assert PredictionParameters().window == "auto"
    assert PredictionParameters(window=[32, 32, 16]).window == (32, 32, 16)
    for wrong in ("half", [32, 32], [32, 32, 20]):
        with pytest.raises(ValidationError, match="window"):
            PredictionParameters(window=wrong)


def test_a_checkpoint_says_what_its_networks_saw_at_once():
    given = {"channels": 1, "class_names": ["liver"], "spacing": "header"}
    whole = InputParameters.model_validate({**given, "preprocessing": {"grid": [64, 64, 32]}})
    patch = InputParameters.model_validate({**given, "preprocessing": {"grid": None}, "patch": [24, 24, 32]})
    assert (whole.trained_on, patch.trained_on) == ((64, 64, 32), (24, 24, 32))
    with pytest.raises(ValidationError, match=r"patch: is null, and so is preprocessing\.grid"):
        InputParameters.model_validate({**given, "preprocessing": {"grid": None}})


@pytest.mark.parametrize(("cohort", "training"), [("source", "source_training"), ("target", "target_training")])
def test_volumes_of_any_size_need_patches(cohort: str, training: str):
    # What stands in the base environment, without what globals.yml fills in.
    parameters: dict[str, Any] = {}
    for file in BASE.glob("parameters*.yml"):
        parameters |= yaml.safe_load(file.read_text())
    parameters |= {"environment": "e", "prior": "learnt", "volume_suffix": ".nii"}
    parameters |= {"export_prior": {}, "lineage": {"folder": "lineage"}}
    assert find_problems(parameters) == []
    preprocessing = parameters["data_processing"][cohort]["preprocessing"]
    preprocessing |= {"grid": None, "fit": "pad_crop"}
    [problem] = find_problems(parameters)
    assert problem.name == f"{training}.patches"
    assert "set a grid" in problem.text
    parameters[training]["patches"] = {"size": [24, 24, 24]}
    assert find_problems(parameters) == []

    # With a grid, patches are parts of it.
    parameters[training]["patches"] = {"size": [24, 24, 32]}
    preprocessing["grid"] = [24, 24, 24]
    [problem] = find_problems(parameters)
    assert problem.name == f"{training}.patches.size"
    assert "[24, 24, 32] is larger than the preprocessing's grid, [24, 24, 24]" in problem.text
    preprocessing["grid"] = [24, 24, 32]
    assert find_problems(parameters) == []
