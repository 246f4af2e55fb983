"""Which source networks there are, and what their nodes make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import (
    AugmentationParameters,
    CohortParameters,
    ComputeParameters,
    NetworkParameters,
    SourceTrainingParameters,
)
from dwp_kedro.pipelines.plan import Plan
from dwp_kedro.pipelines.source_training import create_pipeline, whole_names
from dwp_kedro.pipelines.source_training.nodes import take_snapshots, train_network

RECORDS = {
    "ri": {"start": "he"},
    "pr": {"start": "source"},
    "dwp": {"start": "prior", "prior": "deep_weight_prior"},
    "sp": {"start": "he", "prior": "source_posterior"},
}
SNAPSHOTS = {"n_snapshots": 3, "every_steps": 1, "rank": 2}


def _plan(methods: list[str], *, carry: bool = True, **training: Any) -> Plan:
    return Plan.from_parameters(
        {
            "grid": {"methods": methods, "seeds": [7]},
            "methods": RECORDS,
            "source_training": {"n_networks": 2, "restart": None, **training},
            "prior_learning": {"carry_source_network": carry},
        }
    )


def test_whole_networks_are_as_many_as_something_needs():
    three = ["whole_0", "whole_1", "whole_2"]
    assert whole_names(_plan(["ri", "pr"], n_whole=3)) == three
    assert whole_names(_plan(["ri", "sp"], n_whole=3, snapshots=SNAPSHOTS)) == three
    assert whole_names(_plan(["ri", "dwp"], n_whole=3)) == ["whole_0"]
    assert whole_names(_plan(["ri", "dwp"], n_whole=3, carry=False)) == []


def test_each_whole_network_has_a_posterior_if_snapshots_are_asked_for():
    without = create_pipeline(_plan(["pr"], n_whole=2))
    built = create_pipeline(_plan(["pr"], n_whole=2, snapshots=SNAPSHOTS))
    added = {node.name: node for node in built.nodes if node.name not in {old.name for old in without.nodes}}
    assert set(added) == {f"source_training.whole_{i}_source_posterior.take_snapshots" for i in (0, 1)}
    for i in (0, 1):
        node = added[f"source_training.whole_{i}_source_posterior.take_snapshots"]
        assert f"source_training.whole_{i}.checkpoint" in node.inputs
        assert node.outputs == [
            f"source_training.whole_{i}.source_posterior",
            f"source_training.whole_{i}_source_posterior.history",
            f"source_training.whole_{i}_source_posterior.metrics",
        ]
        assert "stage.source_network" in node.tags
    summary = next(node for node in built.nodes if node.name == "source_training.summarise")
    assert "source_training.whole_1_source_posterior.metrics" in summary.inputs


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Three made-up volumes, and a training of two steps."""
    random, volumes = np.random.default_rng(0), {}
    for name in "abc":
        image = random.normal(size=(16, 16, 16)).astype(np.float32)
        for partition, array in ((f"{name}/image_0000", image), (f"{name}/label", (image > 1).astype(np.uint8))):
            volumes[partition] = lambda array=array: Volume.from_array(array, np.eye(4))
    cohort = {
        "name": "noise",
        "description": "Noise.",
        "reader": {"layout": "phantom", "folder": "nowhere", "disease": "tumour", "n_subjects": 3},
        "preprocessing": {"grid": (16, 16, 16)},
    }
    schedule = {"kind": "cosine", "max_steps": 2}
    return {
        "volumes": volumes,
        "subjects": pd.DataFrame({"subject": list("abc"), "channels": 1, "fingerprint": list("xyz")}),
        "cohort": CohortParameters.model_validate(cohort),
        "training": SourceTrainingParameters.model_validate({"schedule": schedule, "snapshots": SNAPSHOTS}),
        "network": NetworkParameters(channels=(2, 2, 2, 4)),
        "compute": ComputeParameters(device="cpu", precision="32-true", state_folder="unfinished"),
    }


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_nodes_make_networks_and_their_posterior(inputs: dict[str, Any]):
    checkpoint, _, metrics = train_network(**inputs, index=1, sample="whole")
    bootstrap = train_network(**inputs, index=0, sample="bootstrap")[0]
    posterior, history, described = take_snapshots(checkpoint, **inputs, index=1)
    described_by = {
        *("network", "arguments", "seed", "training", "device", "precision"),
        *("cohort", "cohort_fingerprint", "n_subjects", "metrics", "versions"),
    }
    assert set(checkpoint.metadata) == set(bootstrap.metadata) == described_by
    assert set(posterior.metadata) == {*described_by, "n_snapshots", "rank"}
    assert checkpoint.metadata["precision"] == "32-true"
    assert checkpoint.metadata["seed"] not in (0, 1, bootstrap.metadata["seed"])
    assert checkpoint.metadata["n_subjects"] == posterior.metadata["n_subjects"] == 3
    assert not torch.equal(checkpoint.weights["init_conv.weight"], bootstrap.weights["init_conv.weight"])

    assert {f"{part}/{name}" for part in ("mean", "variance", "deviations") for name in checkpoint.weights} == set(
        posterior.weights
    )
    for name, weight in checkpoint.weights.items():
        assert posterior.weights[f"deviations/{name}"].shape == (2, *weight.shape)
        assert not torch.equal(posterior.weights[f"mean/{name}"], weight), "training goes on from the checkpoint"
    assert history["step"].iloc[-1] == 3
    assert 0.9 < metrics["similarity_to_start"] < 1, "two steps do not turn kernels far"
    assert described.keys() - metrics.keys() == {"mean_weights_dsc"}
    assert metrics.keys() - described.keys() == {"similarity_to_start"}


def test_a_network_that_learnt_nothing_is_warned_of_by_name(
    inputs: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dwp_kedro.pipelines.core.FINDS_NOTHING", 1.1)  # as if any network had learnt nothing
    train_network(**inputs, index=1, sample="whole")
    assert "source whole 1: the training ended in a network that finds next to nothing" in caplog.text


def test_augmentation_changes_what_source_networks_learn(inputs: dict[str, Any]):
    plain = train_network(**inputs, index=0, sample="whole")[0]
    training = inputs["training"].model_copy(update={"augmentation": AugmentationParameters()})
    augmented = train_network(**{**inputs, "training": training}, index=0, sample="whole")[0]
    assert not torch.equal(plain.weights["init_conv.weight"], augmented.weights["init_conv.weight"])
    first, second = (
        take_snapshots(plain, **{**inputs, "training": t}, index=0)[0] for t in (inputs["training"], training)
    )
    assert not torch.equal(first.weights["mean/init_conv.weight"], second.weights["mean/init_conv.weight"])
