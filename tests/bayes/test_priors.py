from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dwp_kedro.bayes.control_priors import fit_gaussian, fit_scale_mixture
from dwp_kedro.bayes.elbo import gaussian_entropy, kl_bound
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior, KernelPrior, KernelwisePrior, ProductOfExperts
from dwp_kedro.networks import KernelVAE, UNet3D
from dwp_kedro.networks.kernel_vae import initialise_vae


class _SquaresPrior(KernelPrior):
    """A cross-entropy without noise, with gradients that differ from kernel to kernel."""

    def cross_entropy(self, mean, log_variance, generator):
        return mean.square().sum(1) + log_variance.exp().sum(1)

    def sample(self, n, generator):
        raise AssertionError


def _posterior() -> BayesianNetwork:
    network = UNet3D(channels=(2, 3, 3, 4))
    generator = torch.Generator().manual_seed(0)
    groups = kernel_groups(network, 1)
    posterior = BayesianNetwork(network, groups, {group.name: 0.05 for group in groups})
    for parameter in posterior.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return posterior


def _squares(posterior: BayesianNetwork, kernel_fraction: float = 1.0) -> KernelwisePrior:
    return KernelwisePrior({group.name: _SquaresPrior() for group in posterior.groups}, kernel_fraction)


def test_every_kernel_counts_once_where_none_is_left_out():
    posterior = _posterior()
    found = _squares(posterior).cross_entropy(posterior, torch.Generator())
    by_hand = sum(
        (m.square() + v.exp()).sum() for m, v in (posterior.kernels(group) for group in posterior.groups)
    )
    torch.testing.assert_close(found, by_hand)


class _MultiplePrior(_SquaresPrior):
    """The same times a number, by which it can be told from others."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def cross_entropy(self, mean, log_variance, generator):
        return self.factor * super().cross_entropy(mean, log_variance, generator)


def test_every_group_is_under_its_own_prior():
    posterior = _posterior()
    factors = {group.name: 10.0**k for k, group in enumerate(posterior.groups)}
    given = {name: _MultiplePrior(factor) for name, factor in reversed(factors.items())}
    KernelwisePrior(given).cross_entropy(posterior, torch.Generator()).backward()
    for group in posterior.groups:
        for name in group.layers:
            layer = posterior.layer(name)
            torch.testing.assert_close(layer.mean.grad, 2 * factors[group.name] * layer.mean.detach())


def test_a_random_subset_is_unbiased_in_value_and_gradient():
    posterior, n_draws = _posterior(), 200
    learnt = [posterior.layer(name).mean for name in ("init_conv", "down3.conv_2", "up3.conv_1")]
    learnt += [posterior.layer("down6.conv_1").raw_log_variance]

    def evaluate(prior: KernelwisePrior, generator: torch.Generator) -> Tensor:
        value = prior.cross_entropy(posterior, generator)
        gradients = torch.autograd.grad(value, learnt)
        return torch.cat([value.detach()[None], *(gradient.flatten() for gradient in gradients)])

    generator = torch.Generator().manual_seed(1)
    exact = evaluate(_squares(posterior), generator)
    draws = torch.stack([evaluate(_squares(posterior, 0.3), generator) for _ in range(n_draws)])
    error = draws.std(0) / n_draws**0.5
    assert (error > 0).all()
    z = (draws.mean(0) - exact) / error
    # Standard normal if unbiased, over more than a thousand (dependent) numbers.
    assert z.abs().max() < 5.5
    assert abs(z[0]) < 4
    assert z.square().mean() < 1.5


def test_a_subset_is_drawn_in_every_group():
    """Groups are small or large; none may be left without its pull."""
    posterior = _posterior()
    _squares(posterior, 0.01).cross_entropy(posterior, torch.Generator().manual_seed(0)).backward()
    for group in posterior.groups:
        assert any(posterior.layer(name).mean.grad.abs().sum() > 0 for name in group.layers)


def test_a_product_of_experts_adds_cross_entropies_and_counts_the_entropy_once():
    posterior = _posterior()
    first, second = _squares(posterior), _squares(posterior, 0.5)
    product = ProductOfExperts([first, second])
    generator = torch.Generator().manual_seed(3)
    separate = [prior.cross_entropy(posterior, generator) for prior in (first, second)]
    entropy = sum(gaussian_entropy(posterior.kernels(group)[1]).sum() for group in posterior.groups)
    found = kl_bound(posterior, product, torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, separate[0] + separate[1] - entropy)
    weight = posterior.layer("down1.conv_1").mean
    twice = torch.autograd.grad(ProductOfExperts([first, first]).cross_entropy(posterior, generator), weight)[0]
    torch.testing.assert_close(twice, 4 * weight.detach())


def test_a_group_without_prior_is_named():
    posterior = _posterior()
    prior = KernelwisePrior({g.name: _SquaresPrior() for g in posterior.groups if g.name not in ("group_4",)})
    for refused in (prior, ProductOfExperts([_squares(posterior), prior])):
        with pytest.raises(ValueError, match=r"no prior for group_4 \(encoder 1/8\)$"):
            refused.require_fit(posterior)
    _squares(posterior).require_fit(posterior)


@pytest.mark.parametrize("kernel_fraction", [0.0, -0.1, 1.1])
def test_a_share_of_kernels_is_a_share(kernel_fraction):
    with pytest.raises(ValueError, match="kernel_fraction"):
        KernelwisePrior({}, kernel_fraction)


def _deep_weight_prior(scale: float) -> DeepWeightPrior:
    vae = KernelVAE()
    initialise_vae(vae, torch.Generator().manual_seed(0))
    return DeepWeightPrior(vae, scale)


def _kernels() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(200, 27, generator=generator) * torch.rand(200, 1, generator=generator)


def _rescaled(fit: Callable[[Tensor], KernelPrior]) -> Callable[[float], KernelPrior]:
    def make(scale: float) -> KernelPrior:
        prior = fit(_kernels())
        prior.scale = prior.scale * scale  # type: ignore[operator, assignment]
        return prior

    return make


SCALED = {
    "deep_weight_prior": _deep_weight_prior,
    "scale_mixture": _rescaled(lambda kernels: fit_scale_mixture(kernels, 3)),
    "gaussian": _rescaled(fit_gaussian),
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaling_kernels_and_prior_together_leaves_the_bound_unchanged(kind):
    s, generator = 0.013, torch.Generator().manual_seed(8)
    mean, log_variance = torch.randn(2, 40, 27, generator=generator, dtype=torch.float64).unbind()
    bounds = []
    for scale in (1.0, s):
        prior, shifted = SCALED[kind](scale).double(), log_variance + 2 * math.log(scale)
        cross_entropy = prior.cross_entropy(scale * mean, shifted, torch.Generator().manual_seed(5))
        bounds.append(cross_entropy - gaussian_entropy(shifted))
    torch.testing.assert_close(bounds[0], bounds[1])


@pytest.mark.parametrize("kind", SCALED)
def test_the_cross_entropy_of_raw_kernels_is_that_of_unit_ones_plus_27_log_scale(kind):
    """−log p(w) = −log p_u(w / s) + 27·log s, whatever s."""
    s, kernels = 0.02, _kernels().double()
    still = torch.full_like(kernels, -60.0)
    raw, unit = (
        SCALED[kind](scale).double().cross_entropy(scale * kernels, still, torch.Generator().manual_seed(5))
        for scale in (s, 1.0)
    )
    torch.testing.assert_close(raw, unit + 27 * math.log(s), rtol=1e-5, atol=1e-5)


def test_a_prior_that_is_frozen_gives_its_encoder_or_nothing():
    for train_encoder in (True, False):
        prior = _deep_weight_prior(0.1)
        prior.freeze(train_encoder)
        assert all(not p.requires_grad for p in prior.vae.decoder.parameters())
        assert all(p.requires_grad == train_encoder for p in prior.vae.encoder.parameters())
