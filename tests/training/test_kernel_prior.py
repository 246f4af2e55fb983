from __future__ import annotations

import math

import pytest
import torch

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.networks import UNet3D
from dwp_kedro.training.kernel_prior import (
    collect_kernels,
    fit_controls,
    learn_prior,
    prior_metrics,
    smallest_norm,
)
from dwp_kedro.training.settings import Compute, Schedule

CPU = Compute(device="cpu")


def test_every_kernel_is_where_its_provenance_says():
    weights = {name: UNet3D(channels=(2, 3, 3, 4)).state_dict() for name in ("a", "b")}
    group = KernelGroup("group_1", "encoder 1/1", ("init_conv", "down1.conv_1"))
    tensor = collect_kernels(weights, group)
    assert len(tensor.kernels) == 2 * (2 * 1 + 3 * 2)
    for row in range(len(tensor.kernels)):
        weight = weights[tensor.network[row]][f"{tensor.layer[row]}.weight"]
        expected = weight[tensor.output_channel[row], tensor.input_channel[row]]
        assert torch.equal(tensor.kernels[row], expected)


def test_near_zero_kernels_are_dropped():
    kernels = torch.ones(10, 27)
    kernels[3] *= 1e-4
    # Norms are √27, but for one that hardly counts: root mean square √(27·9/10).
    assert smallest_norm(kernels, 0.01) == pytest.approx(0.01 * (27 * 0.9) ** 0.5)
    assert (kernels.norm(dim=1) > smallest_norm(kernels, 0.01)).tolist() == [row != 3 for row in range(10)]
    assert smallest_norm(kernels, 0.0) == 0


def _bimodal(n: int, seed: int) -> torch.Tensor:
    """Kernels of two opposite shapes and small noise: no Gaussian describes them well."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.linspace(-1, 1, 27)
    sign = torch.randint(0, 2, (n, 1), generator=generator) * 2.0 - 1
    return 0.03 * (sign * shape + 0.2 * torch.randn(n, 27, generator=generator))


@pytest.fixture(scope="module")
def learnt():
    kernels = _bimodal(400, 0)
    schedule = Schedule(kind="cosine", learning_rate=2e-3, max_steps=250)
    return kernels, *learn_prior(
        kernels,
        task="prior",
        latent_dim=2,
        literal_heads=False,
        batch_size=50,
        schedule=schedule,
        seed=0,
        compute=CPU,
    )


def test_the_scale_is_the_root_mean_square(learnt):
    kernels, prior, _ = learnt
    assert prior.scale == pytest.approx(kernels.square().mean().sqrt().item())


def test_a_structured_group_beats_every_density_that_knows_less(learnt):
    kernels, prior, history = learnt
    metrics = prior_metrics(prior, fit_controls(kernels, 3), kernels, _bimodal(200, 1))
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    for rival in ("isotropic_gaussian_nll", "gaussian_nll", "scale_mixture_nll"):
        assert metrics["heldout_nelbo"] < metrics[rival] - 1, rival
    assert metrics["active_dims"] >= 1
    assert metrics["heldout_latent_kl"] > 0.5
    assert metrics["n_heldout_kernels"] == 200


def test_samples_have_the_kernels_own_units(learnt):
    kernels, prior, _ = learnt
    samples = prior.sample(500, torch.Generator().manual_seed(0))
    assert samples.shape == (500, 27)
    assert samples.std().item() == pytest.approx(kernels.std().item(), rel=0.25)


def test_the_figures_are_the_acting_priors_own_at_unit_spread(learnt):
    kernels, prior, _ = learnt
    controls, heldout = fit_controls(kernels, 3), _bimodal(50, 1)
    metrics = prior_metrics(prior, controls, kernels, heldout, n_samples=1)
    for kind, control in controls.items():
        assert control.scale == pytest.approx(prior.scale)
        raw = -control.log_prob(heldout).mean().item()
        assert metrics[f"{kind}_nll"] == pytest.approx(raw - 27 * math.log(prior.scale), abs=1e-3)
    isotropic = torch.distributions.Normal(0.0, prior.scale).log_prob(heldout).sum(1).mean().item()
    assert metrics["isotropic_gaussian_nll"] == pytest.approx(-isotropic - 27 * math.log(prior.scale), abs=1e-3)
