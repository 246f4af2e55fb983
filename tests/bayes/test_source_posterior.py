from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from dwp_kedro.bayes.elbo import kl_bound
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.source_posterior import VARIANCE_FLOOR, SourcePosterior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError

LAYERS = ("0", "2")
RANK = 4


def _network() -> nn.Sequential:
    """A 1×1×1 layer with a bias between two of 3×3×3: the posterior is over 3·27 + 2·27 weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 2, 1), nn.Conv3d(2, 1, 3, padding=1)).double()


def _posterior() -> BayesianNetwork:
    network = _network()
    posterior = BayesianNetwork(network, kernel_groups(network, 1), {"group_1": 0.05})
    generator = torch.Generator().manual_seed(1)
    for parameter in posterior.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return posterior


def _checkpoint() -> Checkpoint:
    generator = torch.Generator().manual_seed(2)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    weights = {}
    for name, weight in _network().named_parameters():
        weights[f"mean/{name}"] = weight.detach().float() + 0.1 * noise(*weight.shape)
        weights[f"variance/{name}"] = 0.01 * (0.5 + noise(*weight.shape).square())
        weights[f"deviations/{name}"] = 0.1 * noise(RANK, *weight.shape)
    return Checkpoint(weights, {"network": "Sequential", "rank": RANK})


def _flat(checkpoint: Checkpoint, part: str) -> Tensor:
    axis = 1 if part == "deviations" else 0
    return torch.cat([checkpoint.weights[f"{part}/{name}.weight"].double().flatten(axis) for name in LAYERS], axis)


def _dense(scale: float) -> MultivariateNormal:
    """The formula of Maddox et al. 2019, Alg. 1, written out."""
    checkpoint = _checkpoint()
    deviations = _flat(checkpoint, "deviations").T
    covariance = 0.5 * torch.diag(_flat(checkpoint, "variance")) + deviations @ deviations.T / (2 * (RANK - 1))
    return MultivariateNormal(_flat(checkpoint, "mean"), scale * covariance)


def _q(posterior: BayesianNetwork) -> MultivariateNormal:
    mean = torch.cat([posterior.layer(name).mean.flatten() for name in LAYERS])
    variance = torch.cat([posterior.layer(name).log_variance.flatten() for name in LAYERS]).exp()
    return MultivariateNormal(mean, torch.diag(variance))


@pytest.mark.parametrize("scale", [1.0, 0.1, 30.0])
def test_cross_entropy_and_gradients_are_those_of_the_dense_gaussian(scale):
    posterior = _posterior()
    assert posterior.groups[0].layers == LAYERS
    prior = SourcePosterior.from_checkpoint(_checkpoint(), LAYERS, scale).double()
    prior.require_fit(posterior)
    found = prior.cross_entropy(posterior, torch.Generator())
    q = _q(posterior)
    expected = kl_divergence(q, _dense(scale)) + q.entropy()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    learnt = [p for n, p in posterior.named_parameters() if n.endswith((".mean", ".raw_log_variance"))]
    for ours, exact in zip(torch.autograd.grad(found, learnt), torch.autograd.grad(expected, learnt), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4 * exact.abs().max().item())


def test_the_bound_is_the_exact_kl():
    posterior = _posterior()
    prior = SourcePosterior.from_checkpoint(_checkpoint(), LAYERS, 1.0).double()
    exact = kl_divergence(_q(posterior), _dense(1.0))
    torch.testing.assert_close(kl_bound(posterior, prior, torch.Generator()), exact, rtol=1e-5, atol=1e-4)


def test_point_by_point_convolutions_feel_nothing():
    posterior = _posterior()
    prior = SourcePosterior.from_checkpoint(_checkpoint(), LAYERS, 1.0).double()
    kl_bound(posterior, prior, torch.Generator()).backward()
    for name, parameter in posterior.named_parameters():
        assert (parameter.grad is None) == (not name.endswith((".mean", ".raw_log_variance"))), name


def test_scaling_weights_and_prior_together_leaves_the_kl_unchanged():
    s, posterior, checkpoint = 0.03, _posterior(), _checkpoint()
    before = kl_bound(
        posterior, SourcePosterior.from_checkpoint(checkpoint, LAYERS, 1.0).double(), torch.Generator()
    )
    powers = {"mean": 1, "variance": 2, "deviations": 1}
    scaled = {name: tensor * s ** powers[name.split("/")[0]] for name, tensor in checkpoint.weights.items()}
    for name in LAYERS:
        posterior.layer(name).mean.data *= s
        posterior.layer(name).raw_log_variance.data += 2 * math.log(s)
    prior = SourcePosterior.from_checkpoint(Checkpoint(scaled, {}), LAYERS, 1.0).double()
    torch.testing.assert_close(kl_bound(posterior, prior, torch.Generator()), before, rtol=1e-5, atol=1e-4)


def test_a_weight_at_rest_is_held_no_tighter_than_the_floor():
    checkpoint = _checkpoint()
    variance, deviations = checkpoint.weights["variance/0.weight"], checkpoint.weights["deviations/0.weight"]
    variance.view(-1)[0] = 0
    deviations.view(RANK, -1)[:, 0] = 0
    prior = SourcePosterior.from_checkpoint(checkpoint, LAYERS, 1.0)
    expected = 1 / (0.5 * VARIANCE_FLOOR * variance.mean().item())
    assert prior.precision[0].item() == pytest.approx(expected, rel=1e-4)


def test_what_does_not_fit_is_named():
    checkpoint = _checkpoint()
    with pytest.raises(CheckpointError, match=r"lacks mean/9\.weight, variance/9\.weight, deviations/9\.weight"):
        SourcePosterior.from_checkpoint(checkpoint, ("0", "9"), 1.0)
    with pytest.raises(ValueError, match=r"\n  2: source posterior nothing, network \(1, 2, 3, 3, 3\)"):
        SourcePosterior.from_checkpoint(checkpoint, ("0",), 1.0).require_fit(_posterior())
    wide = nn.Conv3d(2, 3, 3)
    other = BayesianNetwork(nn.Sequential(wide), kernel_groups(nn.Sequential(wide), 2), {"group_1": 0.1})
    with pytest.raises(ValueError, match=r"0: source posterior \(3, 1, 3, 3, 3\), network \(3, 2, 3, 3, 3\)"):
        SourcePosterior.from_checkpoint(checkpoint, ("0",), 1.0).require_fit(other)


def test_a_covariance_that_cannot_be_is_refused_with_its_mend():
    checkpoint = _checkpoint()
    with pytest.raises(ValueError, match="source_scale must be positive"):
        SourcePosterior.from_checkpoint(checkpoint, LAYERS, 0.0)
    one = {n: t[:1] if n.startswith("deviations/") else t for n, t in checkpoint.weights.items()}
    with pytest.raises(ValueError, match=r"at least 2 deviations, got 1.*snapshots\.rank"):
        SourcePosterior.from_checkpoint(Checkpoint(one, {}), LAYERS, 1.0)
    checkpoint.weights["variance/2.weight"].zero_()
    with pytest.raises(ValueError, match="do not differ in 2"):
        SourcePosterior.from_checkpoint(checkpoint, LAYERS, 1.0)
