from __future__ import annotations

import pytest
import torch
from literal_vae import literal_decode, literal_encode

from dwp_kedro.networks import KernelVAE, kernel_vae


@pytest.mark.parametrize("literal_heads", [True, False])
def test_matrices_equal_the_literal_layers_forward_and_backward(literal_heads, monkeypatch):
    monkeypatch.setattr(kernel_vae, "_CHUNK", 20)  # two whole ones and a rest
    torch.manual_seed(0)
    vae = KernelVAE(literal_heads=literal_heads).double()
    kernels = torch.randn(50, 27).double().requires_grad_()
    latent = torch.randn(50, 6).double().requires_grad_()
    for fast, literal in (
        (vae.encode(kernels), literal_encode(vae, kernels)),
        (vae.decode(latent), literal_decode(vae, latent)),
    ):
        gradients = []
        for outputs in (fast, literal):
            vae.zero_grad()
            kernels.grad = latent.grad = None
            sum((o * torch.linspace(-1, 1, o.numel()).view_as(o)).sum() for o in outputs).backward()
            tensors = {"kernels": kernels, "latent": latent, **dict(vae.named_parameters())}
            gradients.append({k: p.grad.clone() for k, p in tensors.items() if p.grad is not None})
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
