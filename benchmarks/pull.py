"""How strongly the prior pulls at a posterior's means, beside the data, group by group, when training starts.

    python benchmarks/pull.py hippocampus_to_lgg

For each kernel group: root mean square over its kernels of the expected gradient of the data term, on all
training volumes of the first draw without augmentation, and of KL / (N·V), on all kernels; and their ratio, which
is that at temperature 1. Far above 1, the prior alone says where the group's kernels go, since Adam evens out the
size of steps. Expectations are over samples of the weights; the noise of their means is taken out by multiplying
two independent ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol
from torch import Tensor

from dwp_kedro.bayes.elbo import kl_bound
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import unpack_prior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.cohorts.splits import training_subjects
from dwp_kedro.networks import UNet3D
from dwp_kedro.networks.checkpoint import load_weights
from dwp_kedro.parameters import TargetTrainingParameters
from dwp_kedro.pipelines.volumes import load_image, load_label
from dwp_kedro.progress import track
from dwp_kedro.training.losses import dice_cross_entropy
from dwp_kedro.training.target import (
    Method,
    PosteriorObjective,
    PosteriorSettings,
    initial_scales,
    make_objective,
    make_prior,
)

PROJECT = Path(__file__).parents[1]
METHOD = Method(("deep_weight_prior",))
SAMPLES = 16  # of each half


def main() -> None:
    """Print a line per kernel group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="whose source networks and prior are trained")
    parser.add_argument("--n-train", type=int, default=10, help="training volumes of the first draw")
    arguments = parser.parse_args()
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=arguments.environment) as session:
        context = session.load_context()
        measure(context.catalog, context.params, arguments.n_train)


def measure(catalog: CatalogProtocol, parameters: dict[str, Any], n_train: int) -> None:
    """Print what :func:`main` says."""
    training = TargetTrainingParameters.model_validate(parameters["target_training"])
    volumes = catalog.load("data_processing.target.volumes")
    names = training_subjects(catalog.load("data_processing.splits"), 0, n_train)
    checkpoint = catalog.load("source_training.whole_0.checkpoint")
    shape = checkpoint.metadata["arguments"]
    network = UNet3D(shape["in_channels"], shape["out_channels"], tuple(shape["channels"]))
    load_weights(network, checkpoint.weights, "source_training.whole_0.checkpoint")
    images = torch.stack([load_image(volumes, name, network.in_channels) for name in names])
    labels = torch.stack([load_label(volumes, name) for name in names])
    groups = kernel_groups(network, network.in_channels)
    settings = PosteriorSettings(temperature=1, initial_sigma=training.initial_sigma, kernel_fraction=1)
    prior = make_prior(METHOD.priors, unpack_prior(catalog.load("prior_learning.prior")), None, settings, groups)
    scales = initial_scales(network, groups)
    objective, posterior = make_objective(
        network, groups, METHOD, prior, scales, settings, training.dice_weight, n_train
    )
    assert isinstance(objective, PosteriorObjective)
    assert isinstance(posterior, BayesianNetwork)
    assert objective.prior is not None
    kernel_prior = objective.prior

    def data(generator: torch.Generator) -> Tensor:
        with posterior.weight_sample(generator):
            logits = posterior(images)
        return dice_cross_entropy(logits, labels, training.dice_weight)

    def kl(generator: torch.Generator) -> Tensor:
        return kl_bound(posterior, kernel_prior, generator) / (n_train * labels[0].numel())

    of_data, of_kl = _gradient_sizes(posterior, data), _gradient_sizes(posterior, kl)
    for group in groups:
        pulled, pulling = of_data[group.name], of_kl[group.name]
        print(f"{group.name} data {pulled:.1e} KL {pulling:.1e} ratio {pulling / pulled:.2g}", flush=True)


def _gradient_sizes(posterior: BayesianNetwork, term: Callable[[torch.Generator], Tensor]) -> dict[str, float]:
    """Root mean square over a group's kernels of a term's expected gradient in their means."""
    one, other = (_mean_gradients(posterior, term, first) for first in (0, SAMPLES))
    products = {name: (one[name] * other[name]).mean().item() for name in one}
    return {name: max(product, 0.0) ** 0.5 for name, product in products.items()}


def _mean_gradients(
    posterior: BayesianNetwork, term: Callable[[torch.Generator], Tensor], first_seed: int
) -> dict[str, Tensor]:
    posterior.zero_grad()
    for seed in track(range(first_seed, first_seed + SAMPLES), f"gradients of {term.__name__}"):
        (term(torch.Generator().manual_seed(seed)) / SAMPLES).backward()
    return {
        group.name: torch.cat([_gradient(posterior.layer(name).mean) for name in group.layers])
        for group in posterior.groups
    }


def _gradient(means: Tensor) -> Tensor:
    assert means.grad is not None
    return means.grad.flatten().clone()


if __name__ == "__main__":
    main()
