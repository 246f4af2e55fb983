from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dwp_kedro.networks import KernelVAE


def _literal_encode(vae: KernelVAE, kernels):
    """The paper's layers, one by one, as they are printed."""
    e = vae.encoder
    x = kernels.view(-1, 1, 3, 3, 3)
    x = F.elu(F.max_pool3d(e.conv_1(x), 2, padding=1))
    x = F.elu(F.max_pool3d(e.conv_2(x), 2))
    x = F.elu(e.conv_3(x)).flatten(1)
    return e.latent_mean(x), e.latent_log_variance(x)


def _literal_decode(vae: KernelVAE, latent):
    d = vae.decoder
    x = d.linear(latent).view(-1, 128, 1, 1, 1)
    for name in ("conv_1", "conv_2", "conv_3", "conv_4"):
        x = F.elu(getattr(d, name)(x))
    return tuple(getattr(d, head)(x).tanh().flatten(1) for head in ("mean", "log_variance"))


def test_matrices_equal_the_literal_layers_forward_and_backward():
    torch.manual_seed(0)
    vae = KernelVAE(literal_heads=True).double()
    kernels, latent = torch.randn(50, 27).double(), torch.randn(50, 6).double()
    for fast, literal in (
        (vae.encode(kernels), _literal_encode(vae, kernels)),
        (vae.decode(latent), _literal_decode(vae, latent)),
    ):
        gradients = []
        for outputs in (fast, literal):
            vae.zero_grad()
            sum((o * torch.linspace(-1, 1, o.numel()).view_as(o)).sum() for o in outputs).backward()
            gradients.append({k: p.grad.clone() for k, p in vae.named_parameters() if p.grad is not None})
        torch.testing.assert_close(fast, literal, rtol=1e-5, atol=1e-5)
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-9, atol=1e-9)


def test_free_heads_reach_beyond_one_and_clamp_the_log_variance():
    vae = KernelVAE()
    with torch.no_grad():
        vae.decoder.mean.bias.fill_(3.0)
        vae.decoder.log_variance.bias.fill_(-100.0)
    mean, log_variance = vae.decode(torch.randn(4, 6))
    assert mean.min() > 1
    assert log_variance.unique().tolist() == [pytest.approx(-10.0)]
