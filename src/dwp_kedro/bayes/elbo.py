"""The objective of target training and its scale.

A likelihood exp(−V·loss) per volume of V voxels, with N training volumes, makes the negative ELBO

    V·Σ_i loss_i + KL(q ‖ p)  =  N·V · [ mean_i loss_i + KL / (N·V) ].

Training minimises the bracket, with one factor in front of its second term:

    loss = data term + temperature · KL / (N·V)

Temperature 1 is the bound itself: of a generalised (Gibbs) posterior, because the loss is Dice and cross-entropy,
which is no normalised likelihood. A smaller temperature is a "cold" posterior; 0 switches the prior off and
leaves the noise, which is a control.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import LOG_2PI, KernelPrior


def gaussian_entropy(log_variance: Tensor) -> Tensor:
    """Entropy of independent Gaussians, summed over the last axis; nats."""
    return 0.5 * (log_variance + LOG_2PI + 1).sum(-1)


def kl_bound(
    posterior: BayesianNetwork,
    priors: Mapping[str, KernelPrior],
    generator: torch.Generator,
    kernel_fraction: float = 1.0,
) -> Tensor:
    """Estimate KL(q ‖ p), or its bound, summed over all 3×3×3 kernels; nats.

    The entropy is counted on all kernels. The cross-entropy is estimated on a random share of each group's
    kernels, drawn anew at each call, and scaled up: unbiased, in its gradient too.

    Raises:
        ValueError: if a group has no prior; the message names the groups.
    """
    missing = [group.name for group in posterior.groups if group.name not in priors]
    if missing:
        raise ValueError(f"the prior does not fit the network: no prior for {', '.join(missing)}")
    total = torch.zeros((), device=next(posterior.parameters()).device)
    for group in posterior.groups:
        mean, log_variance = posterior.kernels(group)
        n = len(mean)
        n_drawn = math.ceil(kernel_fraction * n)
        drawn = torch.randperm(n, generator=generator, device=generator.device)[:n_drawn].to(mean.device)
        cross_entropy = priors[group.name].cross_entropy(mean[drawn], log_variance[drawn], generator)
        total = total + cross_entropy.sum() * (n / n_drawn) - gaussian_entropy(log_variance).sum()
    return total


def warmed_up(temperature: float, step: int, warm_up_steps: int) -> float:
    """Temperature at ``step`` (from 0), risen linearly from 0 over the warm-up."""
    return temperature * min(1.0, step / warm_up_steps) if warm_up_steps else temperature
