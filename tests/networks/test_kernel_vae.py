from __future__ import annotations

import pytest
import torch
from literal_vae import literal_decode, literal_encode

from dwp_kedro.networks import KernelVAE


@pytest.mark.parametrize("literal_heads", [True, False])
def test_matrices_equal_the_literal_layers_forward_and_backward(literal_heads):
    torch.manual_seed(0)
    vae = KernelVAE(literal_heads=literal_heads).double()
    kernels, latent = torch.randn(50, 27).double(), torch.randn(50, 6).double()
    for fast, literal in (
        (vae.encode(kernels), literal_encode(vae, kernels)),
        (vae.decode(latent), literal_decode(vae, latent)),
    ):
        gradients = []
        for outputs in (fast, literal):
            vae.zero_grad()
            sum((o * torch.linspace(-1, 1, o.numel()).view_as(o)).sum() for o in outputs).backward()
            gradients.append({k: p.grad.clone() for k, p in vae.named_parameters() if p.grad is not None})
        torch.testing.assert_close(fast, literal, rtol=1e-9, atol=1e-9)
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
