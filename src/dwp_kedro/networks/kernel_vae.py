"""The variational autoencoder of 3×3×3 kernels (Kuzina et al. 2019, App. B and Table 2).

Its layers are those of the paper and its weights have their shapes. On a kernel of 27 weights they are,
algebraically, small matrices, and are evaluated as such:

- the encoder's first convolution (pad 1) is a matrix from 27 positions to 27, its second one from 8 to 8;
- max pooling 2 with padding 1 takes 3 positions to 2: the first alone, and the larger of the other two;
- the decoder's 3×3×3 convolution of a 1×1×1 input (pad 1) is its centre tap;
- the transposed 3×3×3 convolution of a 1×1×1 input is a matrix; 1×1×1 ones act on each position alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Bounds of a log-variance: σ between 0.7 % and 55 times a group's spread. Below, one kernel met by chance
# would earn the decoder an unbounded density.
LOG_VARIANCE_RANGE = (-10.0, 8.0)


class KernelEncoder(nn.Module):
    """r(z|w): the parameters of a diagonal Gaussian over latents, from a kernel."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv3d(1, 32, 3, padding=1)
        self.conv_2 = nn.Conv3d(32, 64, 3, padding=1)
        self.conv_3 = nn.Conv3d(64, 128, 1)
        self.latent_mean = nn.Linear(128, latent_dim)
        self.latent_log_variance = nn.Linear(128, latent_dim)

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels (n, 27) → mean and log-variance of r(z|w), (n, latent_dim) each."""
        x = F.linear(kernels, _convolution_matrix(self.conv_1.weight, 3))
        x = _pool_3_to_2(_add_bias(x.unflatten(1, (32, 3, 3, 3)), self.conv_1))
        x = F.linear(F.elu(x).flatten(1), _convolution_matrix(self.conv_2.weight, 2))
        x = F.elu(_add_bias(x.unflatten(1, (64, 8)), self.conv_2).amax(2))
        x = F.elu(F.linear(x, self.conv_3.weight.flatten(1), self.conv_3.bias))
        return self.latent_mean(x), self.latent_log_variance(x).clamp(*LOG_VARIANCE_RANGE)


class KernelDecoder(nn.Module):
    """p(w|z): the parameters of a diagonal Gaussian over kernels, from a latent."""

    def __init__(self, latent_dim: int, literal_heads: bool) -> None:
        super().__init__()
        self.literal_heads = literal_heads
        self.linear = nn.Linear(latent_dim, 128)
        self.conv_1 = nn.Conv3d(128, 128, 3, padding=1)
        self.conv_2 = nn.ConvTranspose3d(128, 128, 3)
        self.conv_3 = nn.ConvTranspose3d(128, 64, 1)
        self.conv_4 = nn.ConvTranspose3d(64, 32, 1)
        self.mean = nn.ConvTranspose3d(32, 1, 1)
        self.log_variance = nn.ConvTranspose3d(32, 1, 1)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, latent_dim) → mean and log-variance of p(w|z), (n, 27) each."""
        x = F.elu(F.linear(self.linear(latent), self.conv_1.weight[:, :, 1, 1, 1], self.conv_1.bias))
        # Rows by position first, so that the 1×1×1 layers below are plain products on (n·27, channels).
        spread = self.conv_2.weight.permute(2, 3, 4, 1, 0).reshape(27 * 128, 128)
        x = F.elu(_add_bias(F.linear(x, spread).view(-1, 128), self.conv_2))
        x = F.elu(_point_wise(x, self.conv_3))
        x = F.elu(_point_wise(x, self.conv_4))
        mean, log_variance = (_point_wise(x, head).view(-1, 27) for head in (self.mean, self.log_variance))
        if self.literal_heads:
            return mean.tanh(), log_variance.tanh()
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)


class KernelVAE(nn.Module):
    """VAE of 3×3×3 kernels: encoder r(z|w), decoder p(w|z), both diagonal Gaussians.

    Args:
        latent_dim: dimension of z.
        literal_heads: Tanh on the decoder's mean and log-variance, as printed in the paper. Otherwise the mean
            is free and the log-variance clamped, which real kernels need (they have tails beyond ±1 of a
            group's spread and are far narrower than σ = 0.6).
    """

    def __init__(self, latent_dim: int = 6, literal_heads: bool = False) -> None:
        super().__init__()
        self.latent_dim, self.literal_heads = latent_dim, literal_heads
        self.encoder = KernelEncoder(latent_dim)
        self.decoder = KernelDecoder(latent_dim, literal_heads)

    def encode(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels (n, 27) → mean and log-variance of r(z|w), (n, latent_dim) each."""
        return self.encoder(kernels)

    def decode(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, latent_dim) → mean and log-variance of p(w|z), (n, 27) each."""
        return self.decoder(latent)


@torch.no_grad()
def initialise_vae(vae: KernelVAE, generator: torch.Generator) -> None:
    """Draw all weights and biases from U(−1/√fan_in, 1/√fan_in), torch's default, out of ``generator`` alone."""
    for module in vae.modules():
        if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d):
            bound = module.weight[0].numel() ** -0.5
            for tensor in (module.weight, module.bias):
                assert tensor is not None
                tensor.copy_((2 * torch.rand(tensor.shape, generator=generator) - 1) * bound)


def _convolution_matrix(weight: Tensor, side: int) -> Tensor:
    """Matrix of a 3×3×3 convolution with padding 1 on a cube of ``side`` voxels.

    weight (out, in, 3, 3, 3) → (out·side³, in·side³); both axes run over channel, then position.
    """
    position = torch.arange(side, device=weight.device)
    tap = position[None, :] - position[:, None] + 1  # [output, input] position along one axis
    inside = (tap >= 0) & (tap <= 2)
    tap = tap.clamp(0, 2)
    x, y, z = tap[:, None, None, :, None, None], tap[:, None, None, :, None], tap[:, None, None, :]
    mask = inside[:, None, None, :, None, None] & inside[:, None, None, :, None] & inside[:, None, None, :]
    matrix = weight[:, :, x, y, z] * mask  # (out, in, side, side, side, side, side, side)
    out_channels, in_channels = weight.shape[:2]
    return matrix.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(out_channels * side**3, in_channels * side**3)


def _add_bias(x: Tensor, layer: nn.Conv3d | nn.ConvTranspose3d) -> Tensor:
    """Add a layer's bias along axis 1 of (n, channels, …)."""
    assert layer.bias is not None
    return x + layer.bias.view(-1, *[1] * (x.ndim - 2))


def _point_wise(x: Tensor, layer: nn.ConvTranspose3d) -> Tensor:
    """Apply a transposed 1×1×1 convolution to rows (n, in)."""
    return F.linear(x, layer.weight[:, :, 0, 0, 0].T, layer.bias)


def _pool_3_to_2(x: Tensor) -> Tensor:
    """Max pooling of size 2, stride 2 and padding 1 on a cube of 3: positions {0} and {1, 2} of each axis."""
    for axis in (2, 3, 4):
        first, second, third = x.unbind(axis)
        x = torch.stack((first, torch.maximum(second, third)), axis)
    return x
