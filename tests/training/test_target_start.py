from __future__ import annotations

import pytest
import torch
from tiny_targets import (
    CHANNELS,
    DWP,
    tiny_priors,
)

from dwp_kedro.bayes.control_priors import fit_gaussian
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import KernelwisePrior
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import (
    PosteriorSettings,
    draw_from_priors,
    initial_scales,
    make_objective,
)


def test_a_start_from_the_prior_replaces_every_kernel_and_nothing_else():
    network, priors = new_network(1, 2, CHANNELS, seed=0), tiny_priors()
    drawn = new_network(1, 2, CHANNELS, seed=0)
    groups = kernel_groups(drawn, 1)
    draw_from_priors(drawn, groups, priors, seed=4)
    again = new_network(1, 2, CHANNELS, seed=0)
    draw_from_priors(again, groups, priors, seed=4)
    for name, weight in drawn.named_parameters():
        assert torch.equal(weight, again.get_parameter(name))
        is_kernel = weight.shape[-1] == 3
        assert torch.equal(weight, network.get_parameter(name)) != is_kernel, name


def test_a_start_from_the_prior_has_no_kernel_twice():
    network = new_network(1, 2, (4, 4, 4, 4), seed=0)
    groups = kernel_groups(network, 1)
    draw_from_priors(network, groups, tiny_priors(), seed=4)
    layers = [name for group in groups for name in group.layers]
    kernels = torch.cat([network.get_parameter(f"{name}.weight").detach().reshape(-1, 27) for name in layers])
    # By direction, because the groups' priors differ in scale.
    directions = kernels / kernels.norm(dim=1, keepdim=True)
    alike = (directions @ directions.T - torch.eye(len(kernels))).max()
    assert alike < 0.999


def test_a_start_from_the_prior_has_every_groups_own_size():
    network = new_network(1, 2, (8, 8, 8, 8), seed=0)
    groups = kernel_groups(network, 1)
    sizes = {group.name: 10.0**k for k, group in enumerate(groups)}
    generator = torch.Generator().manual_seed(0)
    fitted = {name: fit_gaussian(size * torch.randn(400, 27, generator=generator)) for name, size in sizes.items()}
    draw_from_priors(network, groups, dict(reversed(fitted.items())), seed=0)
    for group in groups:
        for layer in group.layers:
            size = network.get_parameter(f"{layer}.weight").detach().square().mean().sqrt().item()
            assert size == pytest.approx(sizes[group.name], rel=0.3), layer


def test_initial_sigma_is_a_fraction_of_the_root_mean_square_of_all_of_a_groups_kernels():
    """Neither a mean over its layers, of which one has larger kernels here, nor the prior's scale."""
    network, priors = new_network(1, 2, CHANNELS, seed=0), tiny_priors()
    settings = PosteriorSettings(initial_sigma=0.5)
    groups = kernel_groups(network, 1)
    for group in groups:
        network.get_submodule(group.layers[0]).get_parameter("weight").data *= 10
    scales = initial_scales(network, groups)
    _, posterior = make_objective(network, groups, DWP, KernelwisePrior(priors), scales, settings, 0.99, 5)
    assert isinstance(posterior, BayesianNetwork)
    for group in groups:
        weights = [network.get_parameter(f"{layer}.weight").flatten() for layer in group.layers]
        sigma = 0.5 * torch.cat(weights).square().mean().sqrt().item()
        for layer in group.layers:
            found = (0.5 * posterior.layer(layer).log_variance).exp()
            torch.testing.assert_close(found, torch.full_like(found, sigma))
