"""Where a cell's posterior starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.networks.kernel_vae import initialise_vae
from dwp_kedro.parameters import MethodParameters, TargetTrainingParameters
from dwp_kedro.pipelines.architectures import new_architecture
from dwp_kedro.pipelines.target_evaluation.cell import Cell, start_component

CHANNELS = (2, 3, 3, 4)


@pytest.mark.parametrize("start", ["he", "prior", "source"])
def test_initial_sigma_is_a_fraction_of_the_root_mean_square_of_the_groups_starting_kernels(start: Any):
    """Wherever the means start, whatever the scale of the prior."""
    network = new_architecture("unet", 1, 2, CHANNELS, seed=0)
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
