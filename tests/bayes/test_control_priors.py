from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from dwp_kedro.bayes.control_priors import (
    FittedDensity,
    GaussianPrior,
    ScaleMixturePrior,
    StandardNormalPrior,
    fit_gaussian,
    fit_scale_mixture,
    spread,
)


def _normal(n: int, sigma: float, seed: int = 0) -> Tensor:
    return sigma * torch.randn(n, 27, generator=torch.Generator().manual_seed(seed))


def _correlated(n: int, seed: int = 0) -> Tensor:
    return _normal(n, 1.0, seed) @ _mix()


def _mix() -> Tensor:
    return torch.linspace(0.3, 2, 27)[:, None] * torch.linalg.qr(_normal(27, 1.0, seed=5))[0]


def _entropy(sigma: float) -> float:
    return 27 * (0.5 * math.log(2 * math.pi * math.e) + math.log(sigma))


def _nll(density: FittedDensity, kernels: Tensor) -> float:
    return -density.log_prob(kernels).mean().item()


@pytest.mark.parametrize(
    "fit", [lambda k: fit_scale_mixture(k, 1), fit_gaussian, lambda k: fit_scale_mixture(k, 3)]
)
@pytest.mark.parametrize("sigma", [0.3, 0.004])
def test_each_density_reaches_the_entropy_of_what_it_models(fit, sigma):
    density, n = fit(_normal(4000, sigma)), 4000
    heldout = -density.log_prob(_normal(n, sigma, seed=1))
    # On new kernels a maximum-likelihood fit of d parameters misses the entropy by about d / 2n.
    excess = heldout.mean().item() - _entropy(sigma) - (27 * 15 / n if isinstance(density, GaussianPrior) else 0)
    assert abs(excess) < 5 * heldout.std().item() / n**0.5
    assert density.scale == pytest.approx(sigma, rel=0.01)


def test_the_full_gaussian_knows_correlation():
    kernels, heldout = _correlated(5000), _correlated(5000, seed=1)
    expected = _entropy(1.0) + torch.linalg.slogdet(_mix().double())[1].item()
    assert _nll(fit_gaussian(kernels), heldout) == pytest.approx(expected, abs=0.3)
    assert _nll(fit_scale_mixture(kernels, 1), heldout) > expected + 3


def test_the_scale_mixture_knows_tails():
    kernels = torch.cat([_normal(1500, 0.1), _normal(1500, 1.0, seed=1)])
    # Two scales that far apart hardly overlap in 27 dimensions: entropy is the mean of the two plus log 2.
    expected = (_entropy(0.1) + _entropy(1.0)) / 2 + math.log(2)
    mixture = fit_scale_mixture(kernels, 2)
    assert _nll(mixture, kernels) == pytest.approx(expected, abs=0.3)
    assert _nll(fit_scale_mixture(kernels, 1), kernels) > expected + 10
    sigmas = mixture.scale * (0.5 * mixture.log_variances).exp().sort().values
    torch.testing.assert_close(sigmas, torch.tensor([0.1, 1.0]), rtol=0.02, atol=0)


def test_log_densities_are_those_of_torch():
    kernels = 0.02 * _correlated(300)
    gaussian = fit_gaussian(kernels)
    covariance = gaussian.scale**2 * gaussian.cholesky.double() @ gaussian.cholesky.double().T
    exact = MultivariateNormal(gaussian.scale * gaussian.mean.double(), covariance)
    torch.testing.assert_close(
        gaussian.log_prob(kernels).double(), exact.log_prob(kernels.double()), rtol=1e-4, atol=1e-3
    )
    mixture = fit_scale_mixture(kernels, 3)
    sigmas = mixture.scale * (0.5 * mixture.log_variances).exp()
    by_hand = torch.stack(
        [
            log_weight + torch.distributions.Normal(0.0, sigma).log_prob(kernels).sum(1)
            for log_weight, sigma in zip(mixture.log_weights, sigmas, strict=True)
        ]
    ).logsumexp(0)
    torch.testing.assert_close(mixture.log_prob(kernels), by_hand, rtol=1e-4, atol=1e-3)


PRIORS = {
    "scale_mixture": lambda: fit_scale_mixture(0.03 * _correlated(500), 3),
    "gaussian": lambda: fit_gaussian(0.03 * _correlated(500) + 0.01),
    "standard_normal": StandardNormalPrior,
}


def _q() -> tuple[Tensor, Tensor]:
    return 0.05 * _normal(6, 1.0, seed=2), _normal(6, 1.0, seed=3) - 8


@pytest.mark.parametrize("kind", PRIORS)
def test_the_cross_entropy_is_the_mean_of_minus_log_density_over_samples(kind):
    prior, (mean, log_variance) = PRIORS[kind](), _q()
    n, generator = 2000, torch.Generator().manual_seed(4)
    repeated = mean.repeat_interleave(n, 0), log_variance.repeat_interleave(n, 0)
    noise = torch.randn(repeated[0].shape, generator=generator)
    samples = -prior.log_prob(repeated[0] + (0.5 * repeated[1]).exp() * noise).view(-1, n)
    found = prior.cross_entropy(*repeated, generator).view(-1, n)
    error = ((samples.var(1) + found.var(1)) / n).sqrt()
    assert ((samples.mean(1) - found.mean(1)).abs() < 4.5 * error).all()
    if kind != "scale_mixture":  # closed form: no noise of its own
        assert (found.std(1) < 1e-3 * samples.std(1)).all()


@pytest.mark.parametrize("kind", ["gaussian", "standard_normal"])
def test_the_closed_form_is_torchs_kl_plus_entropy(kind):
    prior, (mean, log_variance) = PRIORS[kind]().double(), [tensor.double().requires_grad_() for tensor in _q()]
    found = prior.cross_entropy(mean, log_variance, torch.Generator())
    p = MultivariateNormal(prior.scale * prior.mean, scale_tril=prior.scale * prior.cholesky)
    q = MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))
    expected = kl_divergence(q, p) + q.entropy()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    for ours, exact in zip(
        torch.autograd.grad(found.sum(), (mean, log_variance)),
        torch.autograd.grad(expected.sum(), (mean, log_variance)),
        strict=True,
    ):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["scale_mixture", "gaussian"])
def test_log_density_of_a_raw_kernel_is_that_of_the_unit_one_less_27_log_scale(kind):
    raw = PRIORS[kind]()
    unit = type(raw)(**raw.state_dict(), scale=1.0)
    kernels = _normal(20, 1.0, seed=6)
    expected = unit.log_prob(kernels) - 27 * math.log(raw.scale)
    torch.testing.assert_close(raw.log_prob(raw.scale * kernels), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", ["scale_mixture", "gaussian"])
def test_fitting_scaled_kernels_gives_the_scaled_density(kind):
    fit = {"scale_mixture": lambda k: fit_scale_mixture(k, 3), "gaussian": fit_gaussian}[kind]
    kernels = _correlated(500)
    small, large = fit(0.01 * kernels), fit(kernels)
    expected = large.log_prob(kernels) - 27 * math.log(0.01)
    torch.testing.assert_close(small.log_prob(0.01 * kernels), expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kind", PRIORS)
def test_samples_have_the_moments_of_the_density(kind):
    prior, n = PRIORS[kind](), 10_000
    samples = prior.sample(n, torch.Generator().manual_seed(0))
    assert samples.shape == (n, 27)
    assert torch.equal(samples, prior.sample(n, torch.Generator().manual_seed(0)))
    if isinstance(prior, GaussianPrior):  # the mean of −log p over its own samples is the entropy
        nll = -prior.log_prob(samples)
        entropy = MultivariateNormal(prior.mean, scale_tril=prior.scale * prior.cholesky).entropy().item()
        assert abs(nll.mean().item() - entropy) < 5 * nll.std().item() / n**0.5
    else:
        assert isinstance(prior, ScaleMixturePrior)
        variance = (prior.log_weights.exp() * prior.log_variances.exp()).sum().item() * prior.scale**2
        squares = samples.square().mean(1)
        assert abs(squares.mean().item() - variance) < 5 * squares.std().item() / n**0.5


def test_spread_is_about_zero():
    assert spread(torch.full((4, 27), -0.5)) == pytest.approx(0.5)


def test_a_scale_must_be_positive():
    with pytest.raises(ValueError, match="positive, got 0"):
        ScaleMixturePrior(torch.zeros(1), torch.zeros(1), 0.0)
