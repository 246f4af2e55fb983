"""Objectives of a tiny U-Net under every kind of prior, and a batch for them."""

from __future__ import annotations

import torch

from dwp_kedro.bayes.control_priors import fit_gaussian, fit_scale_mixture
from dwp_kedro.bayes.groups import KernelGroup, kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE, UNet3D
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.networks.kernel_vae import initialise_vae
from dwp_kedro.training.settings import Compute
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import (
    Method,
    PosteriorObjective,
    PosteriorSettings,
    initial_scales,
    make_objective,
    make_prior,
)

CPU = Compute(device="cpu")
CHANNELS = (2, 3, 3, 4)
DWP = Method(("deep_weight_prior",))


def tiny_groups() -> tuple[KernelGroup, ...]:
    return kernel_groups(UNet3D(channels=CHANNELS), 1)


def tiny_priors(scale: float = 0.1) -> dict[str, DeepWeightPrior]:
    priors = {}
    for seed, group in enumerate(tiny_groups()):
        vae = KernelVAE()
        initialise_vae(vae, torch.Generator().manual_seed(seed))
        priors[group.name] = DeepWeightPrior(vae, scale * (seed + 1))
    return priors


def tiny_batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 1, 16, 16, 16, generator=generator)
    return images, (images[:, 0] > 1).to(torch.uint8)


def tiny_network_prior() -> NetworkPrior:
    kernels = 0.1 * torch.randn(60, 27, generator=torch.Generator().manual_seed(0))
    controls = {
        "scale_mixture": {group.name: fit_scale_mixture(kernels, 2) for group in tiny_groups()},
        "gaussian": {group.name: fit_gaussian(kernels) for group in tiny_groups()},
    }
    return NetworkPrior(tiny_priors(), {}, controls)


def tiny_source_posterior() -> Checkpoint:
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, weight in new_network(1, 2, CHANNELS, seed=0).named_parameters():
        weights[f"mean/{name}"] = weight.detach() + 0.01 * torch.randn(weight.shape, generator=generator)
        weights[f"variance/{name}"] = 1e-4 * (1 + torch.rand(weight.shape, generator=generator))
        weights[f"deviations/{name}"] = 1e-2 * torch.randn(3, *weight.shape, generator=generator)
    return Checkpoint(weights, {})


def make_tiny(
    names: tuple[str, ...],
    settings: PosteriorSettings,
    seed: int = 0,
    prior: NetworkPrior | None = None,
    layers: tuple[str, ...] | None = None,
):
    network, groups, known = new_network(1, 2, CHANNELS, seed), tiny_groups(), prior or tiny_network_prior()
    weight_prior = make_prior(names, known, tiny_source_posterior(), settings, groups)
    scales = initial_scales(network, groups)
    return make_objective(
        network, groups, Method(names, layers), weight_prior, scales, settings, 0.99, n_volumes=5
    )


def tiny_objective(names: tuple[str, ...] = DWP.priors, **settings) -> PosteriorObjective:
    objective, _ = make_tiny(names, PosteriorSettings(**settings))
    assert isinstance(objective, PosteriorObjective)
    return objective
