from __future__ import annotations

import math

import pytest
import torch

from dwp_kedro.bayes.densities import full_gaussian_nll, isotropic_gaussian_nll, scale_mixture_nll


def _normal(n: int, sigma: float, seed: int = 0) -> torch.Tensor:
    return sigma * torch.randn(n, 27, generator=torch.Generator().manual_seed(seed))


def _entropy(sigma: float) -> float:
    return 27 * (0.5 * math.log(2 * math.pi * math.e) + math.log(sigma))


def test_each_density_reaches_the_entropy_of_what_it_models():
    kernels, heldout = _normal(20_000, 0.3), _normal(20_000, 0.3, seed=1)
    for nll in (
        isotropic_gaussian_nll(kernels, heldout),
        full_gaussian_nll(kernels, heldout),
        scale_mixture_nll(kernels, heldout, 3),
    ):
        assert nll == pytest.approx(_entropy(0.3), abs=0.1)


def test_the_full_gaussian_knows_correlation():
    rotation = torch.linalg.qr(_normal(27, 1.0, seed=5))[0]
    mix = torch.linspace(0.3, 2, 27)[:, None] * rotation
    kernels, heldout = _normal(20_000, 1.0) @ mix, _normal(20_000, 1.0, seed=1) @ mix
    expected = _entropy(1.0) + torch.linalg.slogdet(mix.double())[1].item()
    assert full_gaussian_nll(kernels, heldout) == pytest.approx(expected, abs=0.15)
    assert isotropic_gaussian_nll(kernels, heldout) > expected + 3


def test_the_scale_mixture_knows_tails():
    kernels = torch.cat([_normal(10_000, 0.1), _normal(10_000, 1.0, seed=1)])
    # Two scales that far apart hardly overlap in 27 dimensions: entropy is the mean of the two plus log 2.
    expected = (_entropy(0.1) + _entropy(1.0)) / 2 + math.log(2)
    assert scale_mixture_nll(kernels, kernels, 2) == pytest.approx(expected, abs=0.1)
    assert isotropic_gaussian_nll(kernels, kernels) > expected + 10
