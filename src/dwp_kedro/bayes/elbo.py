"""The objective of target training and its scale.

A likelihood exp(−V·loss) per volume of V voxels, with N training volumes, makes the negative ELBO

    V·Σ_i loss_i + KL(q ‖ p)  =  N·V · [ mean_i loss_i + KL / (N·V) ].

Training minimises the bracket, with one factor in front of its second term:

    loss = data term + temperature · KL / (N·V)

Temperature 1 is the bound itself: of a generalised (Gibbs) posterior, because the loss is Dice and cross-entropy,
which is no normalised likelihood. A smaller temperature is a "cold" posterior; 0 switches the prior off and
leaves the noise, which is a control.

The bound is that of weight samples: loss_i above is an expectation over weights drawn from q once for a whole
volume, and ``estimator: weight_samples`` estimates it by one draw per batch (Kuzina et al. 2019, Alg. 1). Local
reparameterisation (Kingma et al. 2015) draws each layer's output with the mean and the variance that weights drawn
anew for this voxel alone would give it. One kernel acts in all voxels, so shared weights make neighbours go up and
down together, and independent noise does not: the next layer averages it out. It is thus no estimator of that
expectation but another regulariser, of lower variance, and what is minimised with it is not the bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import LOG_2PI, WeightPrior


def gaussian_entropy(log_variance: Tensor) -> Tensor:
    """Entropy of independent Gaussians, summed over the last axis; nats."""
    return 0.5 * (log_variance + LOG_2PI + 1).sum(-1)


def kl_bound(posterior: BayesianNetwork, prior: WeightPrior, generator: torch.Generator) -> Tensor:
    """Estimate KL(q ‖ p), or its bound, summed over all 3×3×3 kernels; a scalar, nats.

    It is the prior's cross-entropy less the entropy of q, which is counted once and on all kernels, whatever and
    however many priors there are.
    """
    entropy = torch.stack(
        [gaussian_entropy(posterior.kernels(group)[1]).sum() for group in posterior.groups]
    ).sum()
    return prior.cross_entropy(posterior, generator) - entropy


def warmed_up(temperature: float, step: int, warm_up_steps: int) -> float:
    """Temperature at ``step`` (from 0), risen linearly from 0 over the warm-up."""
    return temperature * min(1.0, step / warm_up_steps) if warm_up_steps else temperature
