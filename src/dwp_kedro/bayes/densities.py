"""Densities that know nothing, or little, of kernels: what a deep weight prior has to beat.

All are fitted by maximum likelihood to kernels (n, 27) and give log-densities in nats per kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from dwp_kedro.bayes.priors import LOG_2PI


def isotropic_gaussian_nll(kernels: Tensor, heldout: Tensor) -> float:
    """Mean −log N(w; 0, s²·I) over held-out kernels, s fitted to ``kernels``; nats per kernel."""
    variance = kernels.double().square().mean()
    return -_isotropic_log_density(_mean_square(heldout), variance, heldout.shape[1]).mean().item()


def full_gaussian_nll(kernels: Tensor, heldout: Tensor) -> float:
    """Mean −log N(w; mean, covariance) over held-out kernels, both fitted to ``kernels``; nats per kernel.

    The covariance gets 1e-6 of its mean variance on its diagonal, so that few kernels do not make it singular.
    """
    covariance = torch.cov(kernels.double().T, correction=0)
    covariance += 1e-6 * covariance.diagonal().mean() * torch.eye(kernels.shape[1], dtype=torch.float64)
    gaussian = MultivariateNormal(kernels.double().mean(0), covariance)
    return -gaussian.log_prob(heldout.double()).mean().item()


def scale_mixture_nll(kernels: Tensor, heldout: Tensor, n_components: int, iterations: int = 200) -> float:
    """Mean −log Σ_k π_k N(w; 0, s_k²·I) over held-out kernels, fitted by expectation maximisation.

    It knows the tails of the kernels' size and nothing of their shape; nats per kernel.
    """
    size, squares = kernels.shape[1], _mean_square(kernels)
    quantiles = (torch.arange(n_components, dtype=torch.float64) + 0.5) / n_components
    variances = torch.quantile(squares, quantiles).clamp_min(1e-12)
    weights = torch.full((n_components,), 1 / n_components, dtype=torch.float64)
    for _ in range(iterations):
        joint = weights.log() + _isotropic_log_density(squares[:, None], variances, size)
        responsibilities = joint.softmax(1)
        share = responsibilities.sum(0).clamp_min(1e-12)
        variances = ((responsibilities * squares[:, None]).sum(0) / share).clamp_min(1e-12)
        weights = share / share.sum()
    joint = weights.log() + _isotropic_log_density(_mean_square(heldout)[:, None], variances, size)
    return -joint.logsumexp(1).mean().item()


def _mean_square(kernels: Tensor) -> Tensor:
    return kernels.double().square().mean(1)


def _isotropic_log_density(mean_square: Tensor, variance: Tensor, size: int) -> Tensor:
    return -0.5 * size * (mean_square / variance + variance.log() + LOG_2PI)
