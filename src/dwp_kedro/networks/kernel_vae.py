"""The variational autoencoder of 3×3×3 kernels (Kuzina et al. 2019, App. B and Table 2).

Its layers are those of the paper and its weights have their shapes. On a kernel of 27 weights they are,
algebraically, small matrices, and are evaluated as such:

- the encoder's first convolution (pad 1) is a matrix from 27 positions to 27, its second one from 8 to 8;
- the decoder's 3×3×3 convolution of a 1×1×1 input (pad 1) is its centre tap, and one matrix with the linear layer;
- the transposed 3×3×3 convolution of a 1×1×1 input is a matrix; 1×1×1 ones act on each position alike.

Activations have the channel as their last axis, in which pooling is fast, and a CPU takes some hundred kernels
at a time, because the activations of thousands do not stay in its cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Bounds of a log-variance: σ between 0.7 % and 55 times a group's spread. Below, one kernel met by chance
# would earn the decoder an unbounded density.
LOG_VARIANCE_RANGE = (-10.0, 8.0)
_CHUNK = 512  # kernels evaluated at a time on a CPU
_Affine = tuple[Tensor, Tensor]  # matrix (in, out) and bias (out,)


class KernelEncoder(nn.Module):
    """r(z|w): the parameters of a diagonal Gaussian over latents, from a kernel."""

    taps_3: Tensor
    taps_2: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv3d(1, 32, 3, padding=1)
        self.conv_2 = nn.Conv3d(32, 64, 3, padding=1)
        self.conv_3 = nn.Conv3d(64, 128, 1)
        self.latent_mean = nn.Linear(128, latent_dim)
        self.latent_log_variance = nn.Linear(128, latent_dim)
        self.register_buffer("taps_3", _taps(3), persistent=False)
        self.register_buffer("taps_2", _taps(2), persistent=False)

    def forward(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels (n, 27) → mean and log-variance of r(z|w), (n, latent_dim) each."""
        matrices = _convolution_matrix(self.conv_1, self.taps_3), _convolution_matrix(self.conv_2, self.taps_2)
        features = torch.cat([self._features(chunk, *matrices) for chunk in _chunks(kernels)])
        return self.latent_mean(features), self.latent_log_variance(features).clamp(*LOG_VARIANCE_RANGE)

    def _features(self, kernels: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Kernels (n, 27), matrices of two convolutions → (n, 128).

        A bias is added after its pooling, where there is less to add it to; it is the same at all positions, so
        the maximum is too.
        """
        x = _max_pool((kernels @ first).view(-1, 3, 3, 3, 32), 2, padding=1)
        x = F.elu(x + _bias(self.conv_1), inplace=True).flatten(1)
        x = _max_pool((x @ second).view(-1, 2, 2, 2, 64), 2).flatten(1)
        x = F.elu(x + _bias(self.conv_2), inplace=True)
        return F.elu(F.linear(x, self.conv_3.weight.flatten(1), self.conv_3.bias), inplace=True)


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
        centre = self.conv_1.weight[:, :, 1, 1, 1]
        # Nothing lies between the linear layer and the first convolution: together they are one matrix.
        first = (centre @ self.linear.weight).T, torch.addmv(_bias(self.conv_1), centre, self.linear.bias)
        # Columns by position first, so that the 1×1×1 layers after it are plain products on (n·27, channels).
        columns = self.conv_2.weight.flatten(2).transpose(1, 2).reshape(128, 27 * 128)
        spread = columns, _bias(self.conv_2).repeat(27)
        rest = _point_wise(self.conv_3), _point_wise(self.conv_4), _point_wise(self.mean, self.log_variance)
        heads = torch.cat([_decode(chunk, first, spread, *rest) for chunk in _chunks(latent)])
        mean, log_variance = heads.view(-1, 27, 2).unbind(2)
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


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(_CHUNK) if rows.device.type == "cpu" else (rows,)


def _taps(side: int) -> Tensor:
    """Which tap of a 3×3×3 kernel (padding 1) leads from where to where on a cube of ``side`` voxels.

    Zeros and ones, (27, side³ output · side³ input positions); a column of zeros where no tap does.
    """
    position = torch.arange(side)
    tap = position[None, :] - position[:, None] + 1  # [output, input] position along one axis
    along_axis = (tap == torch.arange(3)[:, None, None]).float()
    return torch.einsum("axu,byv,czw->abcxyzuvw", along_axis, along_axis, along_axis).reshape(27, side**6)


def _convolution_matrix(layer: nn.Conv3d, taps: Tensor) -> Tensor:
    """Matrix of a 3×3×3 convolution with padding 1 on the cube of p voxels that ``taps`` is of, without its bias.

    (p·in, p·out), axes over position, then channel; a kernel has but one input channel. The weights are spread
    by a product, because the gradient of gathering them by index is slow.
    """
    out_channels, in_channels = layer.weight.shape[:2]
    p = math.isqrt(taps.shape[1])
    matrix = (layer.weight.view(-1, 27) @ taps).view(out_channels, in_channels, p, p)
    return matrix.permute(3, 1, 2, 0).reshape(p * in_channels, p * out_channels)


def _max_pool(x: Tensor, window: int, padding: int = 0) -> Tensor:
    """Pool (n, x, y, z, channels) → (n, x', y', z', channels): torch's channels_last_3d, if it is told so."""
    return F.max_pool3d(x.permute(0, 4, 1, 2, 3), window, padding=padding).permute(0, 2, 3, 4, 1)


def _point_wise(*layers: nn.ConvTranspose3d) -> _Affine:
    """Matrix (in, all out) and bias of transposed 1×1×1 convolutions, their outputs side by side."""
    weights = torch.cat([layer.weight[:, :, 0, 0, 0] for layer in layers], 1)
    return weights, torch.cat([_bias(layer) for layer in layers])


def _decode(x: Tensor, first: _Affine, spread: _Affine, third: _Affine, fourth: _Affine, heads: _Affine) -> Tensor:
    """Latents (n, latent_dim), the decoder's layers as matrices → (n·27, 2): both heads, at each position."""
    for matrix, bias in (first, spread):
        x = F.elu(torch.addmm(bias, x, matrix), inplace=True)
    x = x.view(-1, 128)
    for matrix, bias in (third, fourth):
        x = F.elu(torch.addmm(bias, x, matrix), inplace=True)
    matrix, bias = heads
    return torch.addmm(bias, x, matrix)


def _bias(layer: nn.Conv3d | nn.ConvTranspose3d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
