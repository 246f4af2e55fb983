from __future__ import annotations

import pytest
from kedro.pipeline import node

from dwp_kedro.parameters import (
    MethodParameters,
    ScheduleParameters,
    SourceTrainingParameters,
    TargetTrainingParameters,
)
from dwp_kedro.tracking.run_parameters import child_of, identity, node_parameters, stage_of


@pytest.mark.parametrize(
    ("child", "found"),
    [
        (
            "target_evaluation.my_method2.n20_split2_seed14",
            {"method": "my_method2", "n_train": "20", "split": "2", "seed": "14"},
        ),
        ("source_training.network_12", {"network": "12", "restarted": "False", "seed": "19"}),
        ("source_training.network_0_restarted", {"network": "0", "restarted": "True", "seed": "7"}),
        ("source_training.whole_0", {"network": "0"}),
        ("prior_learning.group_7", {"group": "7"}),
        ("something.else", {}),
    ],
)
def test_identity_has_the_same_keys_for_all(child: str, found: dict[str, str]):
    absent = dict.fromkeys(("method", "n_train", "split", "seed", "network", "restarted", "group"), "-")
    parameters = node_parameters({"params:source_training": SourceTrainingParameters(n_networks=13, seed=7)})
    assert identity(child, "base", parameters) == absent | found | {"environment": "base"}


def test_parameters_are_flattened_under_their_last_name():
    flat = node_parameters(
        {
            "weights": {"not": "a parameter"},
            "parameters": {"all": "of them"},
            "params:target_evaluation.schedule": ScheduleParameters(max_epochs=7),
            "params:method": MethodParameters(start="prior", trained_layers=["out"]),
            "params:seed": 3,
        }
    )
    assert flat["schedule.max_epochs"] == "7"
    assert flat["method.trained_layers"] == "['out']"
    assert flat["seed"] == "3"
    assert {key.split(".")[0] for key in flat} == {"schedule", "method", "seed"}


def test_all_methods_have_the_same_keys():
    record = MethodParameters(start="he")
    assert node_parameters({"params:methods.ri": record}) == node_parameters({"params:methods.mine": record})
    assert node_parameters({"params:methods.ri": record})["method.start"] == "he"


def test_what_a_method_sets_otherwise_is_recorded_as_what_acted():
    def flat(**own: float) -> dict[str, str]:
        method = MethodParameters(start="prior", prior="deep_weight_prior", target_training=own)
        block = TargetTrainingParameters(temperature=0.1, initial_sigma=0.2)
        return node_parameters({"params:methods.any": method, "params:target_training": block})

    usual, without_pull = flat(), flat(temperature=0)
    assert (usual["target_training.temperature"], usual["method.target_training.temperature"]) == ("0.1", "None")
    changed = {name for name in usual if usual[name] != without_pull[name]}
    assert changed == {"target_training.temperature", "method.target_training.temperature"}
    assert without_pull["target_training.temperature"] == "0.0"
    assert without_pull.keys() == usual.keys()


def test_equal_last_names_stay_apart():
    assert node_parameters({"params:source.grid": {"n": 1}, "params:target.grid": {"n": 2}}) == {
        "source.grid.n": "1",
        "target.grid.n": "2",
    }


def test_stage_and_child_come_from_tag_and_namespace():
    tagged = node(len, "a", "x.b", name="train", tags=["dwp", "stage.grid_cell"], namespace="x.cell")
    assert (stage_of(tagged), child_of(tagged)) == ("grid_cell", "x.cell")
    lone = node(len, "a", "b", name="lone", tags=["n5"])
    assert (stage_of(lone), child_of(lone)) == (None, "lone")
