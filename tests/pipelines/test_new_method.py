"""A fifth method, added by a user in YAML alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.framework.project import pipelines
from mlflow import MlflowClient
from safetensors.torch import load_file

STEPS, LEARNING_RATE, TEMPERATURE = 4, 1e-3, 0.3


@pytest.fixture
def extended_project(project_copy: Path) -> Path:
    """The finished project with an environment in which ``dwp`` also starts from a source network, hotter."""
    conf = project_copy / "conf"
    file = conf / "test" / "parameters_target_evaluation.yml"
    settings = yaml.safe_load(file.read_text())
    base = yaml.safe_load((conf / "base" / "parameters_target_evaluation.yml").read_text())
    own = {"temperature": TEMPERATURE}
    mine = {"start": "source", "prior": "deep_weight_prior", "target_training": own}
    settings["methods"] = {**base["methods"], "mine": mine}
    settings["grid"] |= {"methods": ["dwp", "mine"]}
    settings["target_training"]["schedule"] |= {"max_steps": STEPS, "learning_rate": LEARNING_RATE}
    file.write_text(yaml.safe_dump(settings))
    return project_copy


def test_it_becomes_cells_that_train_as_described(extended_project: Path, open_project: Any, run_project: Any):
    open_project(extended_project)
    cell = pipelines["target_evaluation"].only_nodes_with_namespaces(["target_evaluation.mine"])
    assert {name for name in cell.inputs() if name.startswith(("source_training.", "prior_learning."))} == {
        "source_training.whole_0.checkpoint",
        "prior_learning.prior",
    }

    run_project(extended_project, namespaces=["target_evaluation.mine"])
    models = extended_project / "data" / "06_models" / "test"
    weights = load_file(models / "target_evaluation" / "mine" / "n2_split0_seed0.safetensors")
    start = load_file(models / "source_training" / "whole_0.safetensors")
    assert any(name.endswith("log_variance") for name in weights), "the prior acts on a posterior"
    # Adam moves a weight by hardly more than the learning rate a step: the means began at the source network.
    means = {
        name.removeprefix("component_0/network.").replace(".mean", ".weight"): tensor
        for name, tensor in weights.items()
    }
    moved = [(means[name] - tensor).abs().max().item() for name, tensor in start.items()]
    assert 0 < max(moved) < 2 * STEPS * LEARNING_RATE
    # MLflow has the temperature that acted, not that of the block target_training.
    client = MlflowClient(f"sqlite:///{extended_project}/mlflow.db")
    experiment = client.get_experiment_by_name("dwp-kedro/test")
    assert experiment is not None
    cells = client.search_runs([experiment.experiment_id], "attributes.run_name LIKE '%.n2_split0_seed0'")
    temperatures = {run.data.params["method"]: run.data.params["target_training.temperature"] for run in cells}
    assert (temperatures["mine"], temperatures["dwp"]) == (str(TEMPERATURE), "0.1")
