"""Priors behind one small interface: what each gives is the cross-entropy −E_q log p(w).

A :class:`KernelPrior` knows single kernels, a :class:`WeightPrior` all 3×3×3 kernels of a network together. The
entropy of q is the same for all of them and is counted once, in :mod:`dwp_kedro.bayes.elbo`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence

import torch
from torch import Tensor, nn

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.noise import standard_normal
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.networks.kernel_vae import KernelVAE

LOG_2PI = math.log(2 * math.pi)


class KernelPrior(nn.Module, ABC):
    """A distribution over kernels of 27 weights."""

    @abstractmethod
    def cross_entropy(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
        """Estimate −E_q log p(w), or an upper bound of it, for each kernel of a Gaussian q.

        mean, log_variance (n, 27) → (n,) nats; differentiable in both and unbiased for what it estimates.
        """

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw kernels (n, 27)."""


class WeightPrior(nn.Module, ABC):
    """A distribution over all 3×3×3 kernels of a network."""

    @abstractmethod
    def cross_entropy(self, posterior: BayesianNetwork, generator: torch.Generator) -> Tensor:
        """Give −E_q log p(w) over all 3×3×3 kernels, an upper bound of it, or an unbiased estimate of either.

        A scalar, nats; differentiable in the posterior's means and log-variances.
        """

    @abstractmethod
    def require_fit(self, posterior: BayesianNetwork) -> None:
        """Refuse a posterior over other kernels than this prior is for.

        Raises:
            ValueError: the message names groups or layers.
        """


class KernelwisePrior(WeightPrior):
    """Independent kernels, each under the prior of its group.

    Args:
        groups: priors by group name.
        kernel_fraction: share of each group's kernels, drawn anew at each call, whose cross-entropy is evaluated.
            The sum is scaled up: unbiased, in its gradient too.
    """

    def __init__(self, groups: Mapping[str, KernelPrior], kernel_fraction: float = 1.0) -> None:
        super().__init__()
        if not 0 < kernel_fraction <= 1:
            raise ValueError(f"kernel_fraction must be above 0 and at most 1, got {kernel_fraction}")
        self.groups, self.kernel_fraction = nn.ModuleDict(groups), kernel_fraction

    def cross_entropy(self, posterior: BayesianNetwork, generator: torch.Generator) -> Tensor:
        """Estimate the sum over kernels from a random share of each group's."""
        total = torch.zeros((), device=next(posterior.parameters()).device)
        for group in posterior.groups:
            prior = self.groups[group.name]
            assert isinstance(prior, KernelPrior)
            mean, log_variance = posterior.kernels(group)
            n = len(mean)
            n_drawn = math.ceil(self.kernel_fraction * n)
            if n_drawn < n:
                drawn = torch.randperm(n, generator=generator, device=generator.device)[:n_drawn].to(mean.device)
                mean, log_variance = mean[drawn], log_variance[drawn]
            total = total + prior.cross_entropy(mean, log_variance, generator).sum() * (n / n_drawn)
        return total

    def require_fit(self, posterior: BayesianNetwork) -> None:
        """Refuse a posterior with a group that has no prior."""
        require_groups(self.groups.keys(), posterior.groups)


def require_groups(names: Container[str], groups: Sequence[KernelGroup]) -> None:
    """Refuse priors that lack a group.

    Raises:
        ValueError: if a group is not among ``names``; the message names the groups.
    """
    missing = [f"{group.name} ({group.label})" for group in groups if group.name not in names]
    if missing:
        raise ValueError(f"the prior does not fit the network: no prior for {', '.join(missing)}")


class ProductOfExperts(WeightPrior):
    """A density proportional to the product of several (Hinton 2002).

    The product is not normalised, so the sum of the experts' cross-entropies is its own up to a constant. That
    moves no gradient; but the KL has an unknown zero, and is not to be compared with that under another prior.
    """

    def __init__(self, experts: Sequence[WeightPrior]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def cross_entropy(self, posterior: BayesianNetwork, generator: torch.Generator) -> Tensor:
        """Sum the experts' cross-entropies."""
        return torch.stack([expert.cross_entropy(posterior, generator) for expert in self._experts()]).sum()

    def require_fit(self, posterior: BayesianNetwork) -> None:
        """Refuse what any expert refuses."""
        for expert in self._experts():
            expert.require_fit(posterior)

    def _experts(self) -> list[WeightPrior]:
        return [expert for expert in self.experts if isinstance(expert, WeightPrior)]


class DeepWeightPrior(KernelPrior):
    """The deep weight prior of one kernel group: a VAE over kernels of unit spread, times ``scale``.

    The density of a raw kernel is log p(w) = log p_u(w / scale) − 27·log scale. log p_u is not known; its bound is
    −log p_u(u) ≤ KL(r(z|u) ‖ N(0, I)) − E_r log p(u|z) (Kuzina et al. 2019, eq. 2; Atanov et al. 2019, eq. 8).
    """

    def __init__(self, vae: KernelVAE, scale: float) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"a prior's scale must be positive, got {scale}")
        self.vae, self.scale = vae, float(scale)

    def freeze(self, train_encoder: bool) -> None:
        """Fix the decoder, which is the prior; the encoder only tightens the bound and may go on training."""
        self.vae.decoder.requires_grad_(False)
        self.vae.encoder.requires_grad_(train_encoder)

    def bound(self, kernels: Tensor, latent_noise: Tensor) -> Tensor:
        """Bound of −log p(w) at given kernels (n, 27), with noise (n, latent_dim) for z; (n,) nats."""
        unit = kernels / self.scale
        latent_kl, log_likelihood = vae_terms(self.vae, unit, latent_noise)
        return latent_kl.sum(1) - log_likelihood + kernels.shape[1] * math.log(self.scale)

    def cross_entropy(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
        """Bound −E_q log p(w) by one sample of w and of z.

        Only KL(r ‖ N(0, I)) is taken in closed form. log p(w|z) is evaluated at the sampled w, because z was drawn
        from that same w: integrating w out of it would be biased.
        """
        kernels = mean + (0.5 * log_variance).exp() * standard_normal(mean.shape, generator, mean)
        return self.bound(kernels, standard_normal((len(mean), self.vae.latent_dim), generator, mean))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw kernels (n, 27): z from N(0, I), then w from p(w|z)."""
        reference = next(self.vae.parameters())
        mean, log_variance = self.vae.decode(standard_normal((n, self.vae.latent_dim), generator, reference))
        return self.scale * (mean + (0.5 * log_variance).exp() * standard_normal(mean.shape, generator, reference))


def vae_terms(vae: KernelVAE, kernels: Tensor, latent_noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two terms of a kernel VAE's bound.

    kernels (n, 27), noise (n, latent_dim) → KL(r(z|w) ‖ N(0, I)) per latent dimension (n, latent_dim), and
    log p(w|z) at z = mean + σ·noise (n,); nats.
    """
    mean, log_variance = vae.encode(kernels)
    latent_kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
    reconstruction = vae.decode(mean + (0.5 * log_variance).exp() * latent_noise)
    return latent_kl, gaussian_log_density(kernels, *reconstruction)


def gaussian_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x; mean, exp(log_variance)), summed over the last axis."""
    squares = (x - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance + LOG_2PI).sum(-1)
