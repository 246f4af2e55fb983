"""The kernel VAE as the paper prints it, layer by layer: what the matrices are held and timed against."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.kernel_vae import LOG_VARIANCE_RANGE


def literal_encode(vae: KernelVAE, kernels: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels (n, 27) → mean and log-variance of r(z|w)."""
    e = vae.encoder
    x = kernels.view(-1, 1, 3, 3, 3)
    x = F.elu(F.max_pool3d(e.conv_1(x), 2, padding=1))
    x = F.elu(F.max_pool3d(e.conv_2(x), 2))
    x = F.elu(e.conv_3(x)).flatten(1)
    return e.latent_mean(x), e.latent_log_variance(x).clamp(*LOG_VARIANCE_RANGE)


def literal_decode(vae: KernelVAE, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (n, latent_dim) → mean and log-variance of p(w|z), with the VAE's kind of heads."""
    d = vae.decoder
    x = d.linear(latent).view(-1, 128, 1, 1, 1)
    for name in ("conv_1", "conv_2", "conv_3", "conv_4"):
        x = F.elu(getattr(d, name)(x))
    mean, log_variance = d.mean(x).flatten(1), d.log_variance(x).flatten(1)
    if d.literal_heads:
        return mean.tanh(), log_variance.tanh()
    return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)
