from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dwp_kedro.bayes.control_priors import StandardNormalPrior
from dwp_kedro.bayes.elbo import gaussian_entropy, kl_bound, warmed_up
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import LOG_VARIANCE_RANGE, BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior, KernelwisePrior, gaussian_log_density, vae_terms
from dwp_kedro.networks import KernelVAE, UNet3D
from dwp_kedro.networks.kernel_vae import initialise_vae


def _vae(seed: int = 0, literal_heads: bool = False) -> KernelVAE:
    vae = KernelVAE(literal_heads=literal_heads)
    initialise_vae(vae, torch.Generator().manual_seed(seed))
    return vae


def test_terms_and_gradients_equal_the_reference(shared_vectors):
    v = {k: t.double() for k, t in load_file(shared_vectors / "kernel_vae.safetensors").items()}
    vae = KernelVAE(literal_heads=True).double()
    ours = {
        "encode.0": vae.encoder.conv_1,
        "encode.3": vae.encoder.conv_2,
        "encode.6": vae.encoder.conv_3,
        "latent_mean": vae.encoder.latent_mean,
        "latent_log_variance": vae.encoder.latent_log_variance,
        "linear": vae.decoder.linear,
        "decode.0": vae.decoder.conv_1,
        "decode.2": vae.decoder.conv_2,
        "decode.4": vae.decoder.conv_3,
        "decode.6": vae.decoder.conv_4,
        "reconstruction_mean.0": vae.decoder.mean,
        "reconstruction_log_variance.0": vae.decoder.log_variance,
    }
    for name, layer in ours.items():
        layer.load_state_dict({k: v[f"weight/{name}.{k}"] for k in ("weight", "bias")})
    mean = v["posterior_mean"].flatten(1).requires_grad_()
    log_variance = v["posterior_log_variance"].flatten(1).requires_grad_()
    kernels = mean + (0.5 * log_variance).exp() * v["weight_noise"].flatten(1)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(kernels, v["kernel_sample"].flatten(1), **close)
    for found, expected in zip(vae.encode(kernels), ("latent_mean", "latent_log_variance"), strict=True):
        torch.testing.assert_close(found, v[expected], **close)
    for found, expected in zip(
        vae.decode(v["latent_sample"]), ("reconstruction_mean", "reconstruction_log_variance"), strict=True
    ):
        torch.testing.assert_close(found, v[expected].flatten(1), **close)
    latent_kl, log_likelihood = vae_terms(vae, kernels, v["latent_noise"])
    torch.testing.assert_close(gaussian_entropy(log_variance), v["entropy"], **close)
    torch.testing.assert_close(latent_kl.sum(1), v["latent_kl"], **close)
    torch.testing.assert_close(log_likelihood, v["log_likelihood"], **close)
    bound = DeepWeightPrior(vae, 1.0).bound(kernels, v["latent_noise"]) - gaussian_entropy(log_variance)
    torch.testing.assert_close(bound, v["kl_bound"], **close)
    bound.sum().backward()
    gradients = {
        "gradient_posterior_mean": mean.grad,
        "gradient_posterior_log_variance": log_variance.grad,
        "gradient_encoder_first_conv": vae.encoder.conv_1.weight.grad,
    }
    for name, gradient in gradients.items():
        expected = v[name].flatten(1)
        assert gradient is not None
        torch.testing.assert_close(
            gradient.flatten(1), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )


class _LinearGaussianVAE(nn.Module):
    """p(w|z) = N(Az, s²I) with orthogonal columns of A, so that the exact r(z|w) is a diagonal Gaussian.

    The encoder is that r = N(w·slope + offset, exp(log_variance)), until a test sets it otherwise.
    """

    latent_dim = 3

    def __init__(self, uses_latent: bool = True) -> None:
        super().__init__()
        basis = torch.linalg.qr(_random(27, 3, seed=0))[0]
        self.columns = basis * torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64) * uses_latent
        self.noise = 0.7
        self.precision = 1 + self.columns.square().sum(0) / self.noise**2
        self.slope, self.offset = self.columns / self.noise**2 / self.precision, torch.zeros_like(self.precision)
        self.log_variance = -self.precision.log()

    def encode(self, kernels):
        mean = kernels @ self.slope + self.offset
        return mean, self.log_variance.expand_as(mean)

    def decode(self, latent):
        mean = latent @ self.columns.T
        return mean, torch.full_like(mean, 2 * math.log(self.noise))

    @property
    def marginal(self):
        covariance = self.columns @ self.columns.T + self.noise**2 * torch.eye(27, dtype=torch.float64)
        return MultivariateNormal(torch.zeros(27, dtype=torch.float64), covariance)


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Q_MEAN, Q_LOG_VARIANCE = _random(27, seed=1), _random(27, seed=2) - 2


def _bound_less_kl(vae, n: int = 20_000):
    """How far the KL bound of a Gaussian q lies above the exact KL(q ‖ p): a Monte-Carlo mean, and its error."""
    prior = DeepWeightPrior(vae, 1.0)  # type: ignore[arg-type]
    q = Q_MEAN.expand(n, -1), Q_LOG_VARIANCE.expand(n, -1)
    estimates = prior.cross_entropy(*q, torch.Generator().manual_seed(1)) - gaussian_entropy(Q_LOG_VARIANCE)
    exact = kl_divergence(MultivariateNormal(Q_MEAN, torch.diag(Q_LOG_VARIANCE.exp())), vae.marginal)
    return (estimates.mean() - exact).item(), estimates.std().item() / n**0.5


def test_the_bound_is_the_kl_where_the_encoder_is_exact():
    difference, standard_error = _bound_less_kl(_LinearGaussianVAE())
    assert abs(difference) < 4 * standard_error


@pytest.mark.parametrize(
    ("shift", "log_ratio"),
    [
        ((0.5, 0.5, 0.5), (0.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (-2.0, -2.0, -2.0)),
        ((-0.3, 0.0, 0.9), (0.4, 1.2, -1.5)),
    ],
)
def test_with_any_other_encoder_the_bound_exceeds_the_kl_by_the_kl_to_the_exact_one(shift, log_ratio):
    vae = _LinearGaussianVAE()
    shift, log_ratio = (torch.tensor(values, dtype=torch.float64) for values in (shift, log_ratio))
    vae.offset, vae.log_variance = vae.offset + shift, vae.log_variance + log_ratio
    gap = 0.5 * (shift.square() * vae.precision + log_ratio.exp() - log_ratio - 1).sum().item()
    difference, standard_error = _bound_less_kl(vae)
    assert abs(difference - gap) < 4 * standard_error
    assert difference > 4 * standard_error


def test_a_decoder_that_ignores_the_latent_leaves_the_mean_of_the_encoders_kl():
    vae = _LinearGaussianVAE(uses_latent=False)
    vae.slope, vae.offset = 0.5 * _random(27, 3, seed=3), _random(3, seed=4)
    vae.log_variance = torch.tensor([-2.0, 0.5, 1.0], dtype=torch.float64)
    second_moment = (Q_MEAN @ vae.slope + vae.offset).square() + Q_LOG_VARIANCE.exp() @ vae.slope.square()
    latent_kl = 0.5 * (second_moment + vae.log_variance.exp() - vae.log_variance - 1).sum().item()
    difference, standard_error = _bound_less_kl(vae)
    assert abs(difference - latent_kl) < 4 * standard_error


def test_gaussian_log_density_matches_torch():
    x, mean, log_variance = torch.randn(3, 5, 27).unbind()
    expected = Normal(mean, (0.5 * log_variance).exp()).log_prob(x).sum(1)
    torch.testing.assert_close(gaussian_log_density(x, mean, log_variance), expected)


def _small_posterior() -> BayesianNetwork:
    network = UNet3D(channels=(2, 3, 3, 4))
    groups = kernel_groups(network, 1)
    return BayesianNetwork(network, groups, {group.name: 0.05 for group in groups})


def test_gradients_flow_where_they_must_and_nowhere_else():
    posterior = _small_posterior()
    priors = {group.name: DeepWeightPrior(_vae(), 0.1) for group in posterior.groups}
    for prior in priors.values():
        prior.freeze(train_encoder=True)
    kl_bound(posterior, KernelwisePrior(priors), torch.Generator().manual_seed(0)).backward()
    for name, parameter in posterior.named_parameters():
        touched = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert touched == name.endswith((".mean", ".raw_log_variance")), name
    for prior in priors.values():
        assert all(p.grad is None for p in prior.vae.decoder.parameters())
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in prior.vae.encoder.parameters())


def test_the_bounds_gradients_are_its_slopes():
    """Those in q along every way: kernel, encoder, latent, decoder; and those in the encoder."""
    prior = DeepWeightPrior(_vae().double(), 0.1)
    mean, log_variance = 0.1 * _random(2, 27, seed=1), _random(2, 27, seed=2) - 6
    heads = [prior.vae.encoder.latent_mean.bias, prior.vae.encoder.latent_log_variance.bias]
    assert torch.autograd.gradcheck(
        # The heads are parameters of the prior: gradcheck moves them where they are.
        lambda mean, log_variance, *_: prior.cross_entropy(mean, log_variance, torch.Generator().manual_seed(1)),
        (mean.requires_grad_(), log_variance.requires_grad_(), *heads),
        rtol=1e-5,
    )


def test_a_clamped_log_variance_gets_no_gradient():
    """The entropy alone would let a variance grow, or a huge prior precision shrink it, without end."""
    posterior = _small_posterior()
    layer = posterior.layer("down2.conv_1")
    layer.raw_log_variance.data[0] = LOG_VARIANCE_RANGE[0] - 3
    layer.raw_log_variance.data[1] = LOG_VARIANCE_RANGE[1] + 3
    assert layer.log_variance.min().item() == LOG_VARIANCE_RANGE[0]
    assert layer.log_variance.max().item() == LOG_VARIANCE_RANGE[1]
    prior = KernelwisePrior({group.name: StandardNormalPrior() for group in posterior.groups})
    kl_bound(posterior, prior, torch.Generator()).backward()
    assert layer.raw_log_variance.grad is not None
    assert layer.raw_log_variance.grad[:2].abs().max() == 0
    assert layer.raw_log_variance.grad[2:].abs().min() > 0


def test_the_bound_under_a_standard_normal_is_the_known_kl():
    posterior = _small_posterior()
    prior = KernelwisePrior({group.name: StandardNormalPrior() for group in posterior.groups})
    expected = sum(
        kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum()
        for mean, log_variance in map(posterior.kernels, posterior.groups)
    )
    torch.testing.assert_close(kl_bound(posterior, prior, torch.Generator()), expected)


def test_warm_up_rises_linearly_to_the_temperature():
    assert [warmed_up(0.5, step, 10) for step in (0, 5, 10, 99)] == [0, 0.25, 0.5, 0.5]
    assert warmed_up(0.5, 0, 0) == 0.5
