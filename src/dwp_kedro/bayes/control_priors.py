"""Kernel priors that know little of a kernel's shape: what a deep weight prior has to beat.

The same objects give the held-out figures beside the kernel VAEs (``log_prob``) and act as priors in a target
training (``cross_entropy``). Each is fitted by maximum likelihood to kernels of unit spread and multiplied by
``scale``, as :class:`~dwp_kedro.bayes.priors.DeepWeightPrior` is: log p(w) = log p_u(w / scale) − 27·log scale.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from dwp_kedro.bayes.noise import standard_normal
from dwp_kedro.bayes.priors import LOG_2PI, KernelPrior

_KERNEL_SIZE = 27
_SMALLEST_VARIANCE = 1e-12  # of kernels of unit spread


class FittedDensity(KernelPrior):
    """A density p_u over kernels of unit spread, times ``scale``, that can be evaluated exactly."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"a prior's scale must be positive, got {scale}")
        self.scale = float(scale)

    @abstractmethod
    def _unit_log_prob(self, unit: Tensor) -> Tensor:
        """log p_u of kernels of unit spread (n, 27); (n,) nats."""

    def log_prob(self, kernels: Tensor) -> Tensor:
        """log p(w) of raw kernels (n, 27); (n,) nats."""
        return self._unit_log_prob(kernels / self.scale) - kernels.shape[1] * math.log(self.scale)

    def cross_entropy(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
        """Estimate −E_q log p(w) by one sample of each kernel."""
        return -self.log_prob(mean + (0.5 * log_variance).exp() * standard_normal(mean.shape, generator, mean))


class ScaleMixturePrior(FittedDensity):
    """Σ_k π_k N(0, v_k·I): isotropic zero-mean Gaussians of several scales, which know tails and nothing of shape.

    Args:
        log_weights: log π, (components,).
        log_variances: log v, of kernels of unit spread, (components,).
        scale: what unit kernels are multiplied by.
    """

    log_weights: Tensor
    log_variances: Tensor

    def __init__(self, log_weights: Tensor, log_variances: Tensor, scale: float) -> None:
        super().__init__(scale)
        self.register_buffer("log_weights", log_weights.clone())
        self.register_buffer("log_variances", log_variances.clone())

    def _unit_log_prob(self, unit: Tensor) -> Tensor:
        return _joint_log_density(unit.square().mean(1), self.log_weights, self.log_variances).logsumexp(1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw kernels (n, 27)."""
        weights = self.log_weights.exp().to(generator.device)
        component = torch.multinomial(weights, n, replacement=True, generator=generator)
        sigma = (0.5 * self.log_variances[component.to(self.log_variances.device)]).exp()
        return self.scale * sigma[:, None] * standard_normal((n, _KERNEL_SIZE), generator, sigma)


class GaussianPrior(FittedDensity):
    """N(m, C·Cᵀ) with a full covariance: knows how the weights of a kernel go together, and nothing of tails.

    Args:
        mean: m, of kernels of unit spread, (27,).
        cholesky: C, lower triangular, of kernels of unit spread, (27, 27).
        scale: what unit kernels are multiplied by.
    """

    mean: Tensor
    cholesky: Tensor
    whitening: Tensor

    def __init__(self, mean: Tensor, cholesky: Tensor, scale: float) -> None:
        super().__init__(scale)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("cholesky", cholesky.clone())
        identity = torch.eye(len(mean), dtype=torch.float64)
        inverse = torch.linalg.solve_triangular(cholesky.detach().cpu().double(), identity, upper=False)
        self.register_buffer("whitening", inverse.to(cholesky), persistent=False)  # C⁻¹

    def _unit_log_prob(self, unit: Tensor) -> Tensor:
        return -0.5 * (((unit - self.mean) @ self.whitening.T).square().sum(1) + self._log_normaliser())

    def cross_entropy(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
        """Return −E_q log p(w) in closed form: −log p(mean) + ½·tr(precision · covariance)."""
        unit_variance = log_variance.exp() / self.scale**2
        return -self.log_prob(mean) + 0.5 * unit_variance @ self.whitening.square().sum(0)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw kernels (n, 27)."""
        noise = standard_normal((n, len(self.mean)), generator, self.mean)
        return self.scale * (self.mean + noise @ self.cholesky.T)

    def _log_normaliser(self) -> Tensor:
        """log det(2π·C·Cᵀ)."""
        return len(self.mean) * LOG_2PI + 2 * self.cholesky.diagonal().log().sum()


class StandardNormalPrior(GaussianPrior):
    """N(0, I) on raw weights: fitted to nothing, the usual default of Bayesian networks."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(_KERNEL_SIZE), torch.eye(_KERNEL_SIZE), scale=1.0)


def spread(kernels: Tensor) -> float:
    """Root mean square of all weights of kernels (n, 27), about zero: the scale of a group's priors."""
    return kernels.square().mean().sqrt().item()


def fit_gaussian(kernels: Tensor) -> GaussianPrior:
    """Fit mean and covariance to raw kernels (n, 27) by maximum likelihood.

    The covariance gets 1e-6 of its mean variance on its diagonal, so that few kernels do not make it singular.
    """
    scale = spread(kernels)
    unit = kernels.double() / scale
    covariance = torch.cov(unit.T, correction=0)
    covariance += 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    return GaussianPrior(unit.mean(0).float(), torch.linalg.cholesky(covariance).float(), scale)


def fit_scale_mixture(kernels: Tensor, n_components: int, iterations: int = 200) -> ScaleMixturePrior:
    """Fit weights and variances to raw kernels (n, 27) by expectation maximisation (Dempster et al. 1977).

    With one component it is the isotropic Gaussian, whose fit is exact.
    """
    scale = spread(kernels)
    squares = (kernels.double() / scale).square().mean(1)
    quantiles = (torch.arange(n_components, dtype=torch.float64) + 0.5) / n_components
    variances = torch.quantile(squares, quantiles).clamp_min(_SMALLEST_VARIANCE)
    weights = torch.full((n_components,), 1 / n_components, dtype=torch.float64)
    for _ in range(iterations):
        responsibilities = _joint_log_density(squares, weights.log(), variances.log()).softmax(1)
        share = responsibilities.sum(0).clamp_min(1e-12)
        variances = ((responsibilities * squares[:, None]).sum(0) / share).clamp_min(_SMALLEST_VARIANCE)
        weights = share / share.sum()
    return ScaleMixturePrior(weights.log().float(), variances.log().float(), scale)


def _joint_log_density(mean_squares: Tensor, log_weights: Tensor, log_variances: Tensor) -> Tensor:
    """log π_k + log N(w; 0, v_k·I) from each kernel's mean square (n,); (n, components)."""
    squares = mean_squares[:, None] * (-log_variances).exp()
    return log_weights - 0.5 * _KERNEL_SIZE * (squares + log_variances + LOG_2PI)
