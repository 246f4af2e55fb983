from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dwp_kedro import parameters
from dwp_kedro.parameters import (
    CohortParameters,
    GridParameters,
    MethodParameters,
    ScheduleParameters,
    TargetTrainingParameters,
)
from dwp_kedro.parameters.check import ParameterError
from dwp_kedro.parameters.environment import DataProcessingParameters, EnvironmentParameters, TrackingParameters
from dwp_kedro.pipelines.plan import Plan
from dwp_kedro.training.target import PosteriorSettings

METHODS = {"ri": {"start": "he"}, "dwp": {"start": "prior", "prior": "deep_weight_prior"}}


def plan(**changes: Any) -> Plan:
    blocks: dict[str, Any] = {
        "grid": {"methods": ["ri", "dwp"]},
        "methods": METHODS,
        "source_training": {},
        "prior_learning": {},
    }
    return Plan.from_parameters({**blocks, **changes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ["ri", "ri"]}, "names a value twice"),
        ({"n_train": [5, 5]}, "names a value twice"),
        ({"methods": ["summary"]}, "is a tag of other nodes"),
        ({"methods": ["n5"]}, "is a tag of other nodes"),
        ({"methods": ["Dwp"]}, "should match pattern"),
        ({"n_trian": [5]}, "n_trian"),
    ],
)
def test_a_grid_that_cannot_work_is_refused(values: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        GridParameters.model_validate(values)


def test_the_papers_grid_is_the_default():
    grid = GridParameters()
    assert (grid.n_train, grid.n_splits, grid.n_test) == ([5, 10, 15, 20], 3, 50)
    assert grid.methods == ["ri", "pr", "prf", "dwp"]


def test_what_can_only_fail_after_hours_is_refused_at_once():
    with pytest.raises(ValueError, match="no network is left to learn a prior from"):
        plan(source_training={"n_networks": 1})
    with pytest.raises(ValueError, match=r"methods.ri.trained_layers: names down9.*init_conv, down1"):
        plan(methods={**METHODS, "ri": {"start": "he", "trained_layers": ["down9"]}})
    three = {**METHODS, "ri": {"start": "source", "components": 3}}
    with pytest.raises(ValueError, match=r"methods.ri.components: is 3, .* source_training.n_whole is 2: raise"):
        plan(methods=three, source_training={"n_whole": 2})
    assert plan(methods=three, source_training={"n_whole": 3}).methods["ri"].components == 3
    with pytest.raises(ValueError, match=r"grid.methods: names pr;.*ri, dwp"):
        plan(grid={"methods": ["pr"]})
    assert plan(source_training={"n_networks": 1}, prior="priors/colleague.safetensors").receives_prior
    with pytest.raises(ValueError, match=r"prior: is 'learned'.*learnt or to the path of a prior file"):
        plan(prior="learned")


def test_blocks_that_contradict_each_other_are_told_together():
    with pytest.raises(ParameterError) as caught:
        plan(source_training={"n_networks": 1}, grid={"methods": ["ri", "dpw"]})
    assert str(caught.value).startswith("2 parameters are wrong")
    assert "did you mean dwp?" in str(caught.value)


def test_only_methods_that_take_something_from_the_source_need_a_source():
    assert plan().needs_source
    assert not plan(grid={"methods": ["ri"]}).needs_source


def test_a_cosine_needs_its_length():
    with pytest.raises(ValidationError, match="max_steps"):
        ScheduleParameters(kind="cosine")


def test_of_the_posteriors_settings_a_method_is_trained_with_those_that_act():
    block, other = TargetTrainingParameters(temperature=0.1), TargetTrainingParameters(temperature=0.2)
    plain, bayesian = MethodParameters(start="he"), MethodParameters(start="he", prior="standard_normal")
    own = MethodParameters(start="he", prior="standard_normal", target_training={"temperature": 0})
    assert plain.trained_with(block) == plain.trained_with(other)
    assert {name for name, value in plain.trained_with(block).items() if value is None} >= {
        field.name for field in fields(PosteriorSettings)
    }
    assert plain.trained_with(block)["batch_size"] == block.batch_size
    assert bayesian.trained_with(block) == block.model_dump(mode="json")
    assert bayesian.trained_with(other)["temperature"] == 0.2
    assert own.trained_with(block) == own.trained_with(other) == {**bayesian.trained_with(block), "temperature": 0}


def test_classes_do_not_share_values():
    cohort = {
        "name": "c",
        "description": "",
        "reader": {"layout": "brats", "folder": ".", "channels": ["t2"]},
        "preprocessing": {"grid": [16, 16, 16]},
    }
    with pytest.raises(ValidationError, match=r"\[2\] belong to several classes"):
        CohortParameters.model_validate({**cohort, "labels": {"core": [1, 2], "rim": [2, 3]}})
    assert CohortParameters.model_validate({**cohort, "labels": {"core": [1], "rim": [2]}}).class_names == [
        "core",
        "rim",
    ]


def test_every_parameter_has_a_description():
    models = [m for m in vars(parameters).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    models += [DataProcessingParameters, EnvironmentParameters, TrackingParameters]
    assert [f"{m.__name__}.{n}" for m in models for n, f in m.model_fields.items() if not f.description] == []


@pytest.mark.parametrize("grid", [[16, 16, 8], [20, 16, 16]])
def test_grids_that_the_network_cannot_take_are_refused(grid: list[int]):
    with pytest.raises(ValidationError):
        CohortParameters.model_validate(
            {
                "name": "c",
                "description": "",
                "reader": {"layout": "brats", "folder": ".", "channels": ["t2"]},
                "preprocessing": {"grid": grid},
            }
        )
