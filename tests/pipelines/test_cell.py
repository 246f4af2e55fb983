"""The networks of a grid cell: where they start, whom they train on, and several of them together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cells import RecordingVolumes, cell_inputs, training_subjects_of
from kedro.io import DataCatalog
from torch import Tensor

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior, unpack_prior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.networks.kernel_vae import initialise_vae
from dwp_kedro.parameters import MethodParameters, PredictionParameters, TargetTrainingParameters
from dwp_kedro.pipelines.architectures import new_architecture
from dwp_kedro.pipelines.target_evaluation.cell import Cell, start_component, train_cell
from dwp_kedro.pipelines.target_evaluation.scoring import predict_cell
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import draw_from_priors

CELL = Cell("mine", n_train=2, split=1, seed=3)
WIDTHS = (2, 3, 3, 4)


def component(checkpoint: Checkpoint, k: int) -> dict[str, Tensor]:
    prefix = f"component_{k}/"
    found = {name: tensor for name, tensor in checkpoint.weights.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def test_an_ensemble_sees_one_draw_and_predicts_others(catalog: DataCatalog):
    inputs = cell_inputs(catalog)
    volumes = RecordingVolumes(inputs["volumes"])
    two = MethodParameters(start="he", components=2)
    ensemble, history = train_cell(**{**inputs, "method": two, "volumes": volumes}, cell=CELL)
    assert (history["least_train_dsc"] <= history["train_dsc"]).all()
    trained_on = {name.split("/")[0] for name in volumes.asked}
    assert trained_on == training_subjects_of(catalog, CELL)

    first, second = component(ensemble, 0), component(ensemble, 1)
    kernels = [name for name, tensor in first.items() if tensor.ndim == 5]
    assert kernels
    assert not any(torch.equal(first[name], second[name]) for name in kernels)
    alone, _ = train_cell(**{**inputs, "method": MethodParameters(start="he")}, cell=CELL)
    assert alone.weights.keys() == {f"component_0/{name}" for name in first}
    assert [name for name, tensor in component(alone, 0).items() if not torch.equal(tensor, first[name])] == []

    predictions, _, uncertainty, _ = predict_cell(
        ensemble,
        inputs["volumes"],
        inputs["splits"],
        catalog.load("data_processing.target.manifest"),
        inputs["cohort"],
        catalog.load("params:grid"),
        PredictionParameters(n_samples=0),
        inputs["compute"],
        cell=CELL,
    )
    assert len(predictions) == 3
    assert trained_on.isdisjoint(predictions)
    assert uncertainty["auroc_mutual_information"].notna().any()


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("prior", ["deep_weight_prior", "scale_mixture", ["source_posterior", "scale_mixture"]])
def test_a_start_from_the_prior_is_a_sample_of_it(catalog: DataCatalog, prior: str | list[str], k: int):
    received = unpack_prior(catalog.load("prior_learning.prior"))
    method = MethodParameters(start="prior", prior=prior)
    training, widths = catalog.load("params:target_training"), catalog.load("params:network").channels
    seed = CELL.component_seed(k)
    start, expected, he = (new_network(1, 2, widths, seed) for _ in range(3))
    _, trained = start_component(start, 1, method, training, received, {}, CELL, k, n_volumes=2)
    assert isinstance(trained, BayesianNetwork)
    groups = kernel_groups(expected, 1)
    priors = received.groups if prior == "deep_weight_prior" else received.controls["scale_mixture"]
    draw_from_priors(expected, groups, priors, seed)
    kernels = {f"{layer}.weight": trained.layer(layer).mean for group in groups for layer in group.layers}
    for name, weight in he.named_parameters():
        if name in kernels:
            assert torch.equal(kernels[name], expected.get_parameter(name)), name
            assert not torch.equal(kernels[name], weight), name
        else:
            assert torch.equal(trained.network.get_parameter(name), weight), name


@pytest.mark.parametrize("start", ["he", "prior", "source"])
def test_initial_sigma_is_a_fraction_of_the_root_mean_square_of_the_groups_starting_kernels(start: Any):
    """Wherever the means start, whatever the scale of the prior."""
    network = new_architecture("unet", 1, 2, WIDTHS, seed=0)
    groups, priors = kernel_groups(network, 1), {}
    for number, group in enumerate(groups, start=1):
        vae = KernelVAE()
        initialise_vae(vae, torch.Generator().manual_seed(number))
        priors[group.name] = DeepWeightPrior(vae, 0.1 * number)
    source = {name: 3 * tensor for name, tensor in network.state_dict().items()}
    _, posterior = start_component(
        network,
        1,
        MethodParameters(start=start, prior="deep_weight_prior"),
        TargetTrainingParameters(initial_sigma=0.3),
        NetworkPrior(priors, {}),
        {"source_network_0": Checkpoint(source, {})},
        Cell("mine", n_train=1, split=0, seed=0),
        k=0,
        n_volumes=1,
    )
    assert isinstance(posterior, BayesianNetwork)
    for group in groups:
        mean, log_variance = posterior.kernels(group)
        sigma = 0.3 * mean.square().mean().sqrt().item()
        torch.testing.assert_close((0.5 * log_variance).exp(), torch.full_like(log_variance, sigma))


def test_a_cell_that_learnt_nothing_is_warned_of_by_name(
    catalog: DataCatalog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dwp_kedro.pipelines.core.FINDS_NOTHING", 1.1)  # as if any network had learnt nothing
    train_cell(**cell_inputs(catalog), cell=CELL)
    assert "target mine n2 split1 seed3: the training ended in a network that finds next to nothing" in caplog.text
