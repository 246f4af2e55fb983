"""Blocks of the U-Net (Kuzina et al. 2019, Fig. 1 and App. B).

The paper's convolution block is InstanceNorm (no affine) → ReLU → convolution without bias. The first two hold
no parameters, so they are the function :func:`activate`, and a block's members are plain convolutions.

On a CPU tensors are kept in the memory format channels_last_3d, in which convolutions of 16 and 32 channels, above
all those of stride 2, and interpolation take a fraction of their time, if the norm keeps it too, as it does here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON = 1e-5  # of the variance, as in F.instance_norm


def activate(x: Tensor) -> Tensor:
    """InstanceNorm without affine, then ReLU; any (batch, channels, x, y, z)."""
    if x.device.type == "cpu":
        return _NormRelu.apply(x)
    return F.relu(F.instance_norm(x))


def channels_last(x: Tensor) -> Tensor:
    """Return (batch, channels, x, y, z) in the memory format channels_last_3d, which layers after it keep.

    ``contiguous`` would leave a single channel's strides as they are, and convolutions look at those.
    """
    return torch.empty_like(x, memory_format=torch.channels_last_3d).copy_(x)


class _NormRelu(torch.autograd.Function):
    """InstanceNorm and ReLU on a CPU: batch norm of one volume after the other, which keeps the memory format."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        activated = torch.empty_like(x)
        statistics: list[Tensor] = []
        for volume, result in zip(x.split(1), activated.split(1), strict=True):
            normed, *of_volume = torch.native_batch_norm(volume, None, None, None, None, True, 0.0, _EPSILON)
            torch.clamp_min(normed, 0, out=result)
            statistics += of_volume
        ctx.save_for_backward(x, activated, *statistics)
        return activated

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, activated, *statistics = ctx.saved_tensors
        gradients = torch.empty_like(x)
        parts = zip(gradient.split(1), activated.split(1), x.split(1), gradients.split(1), strict=True)
        for index, (outer, result, volume, inner) in enumerate(parts):
            outer = torch.ops.aten.threshold_backward(outer, result, 0)
            mean, inverse_deviation = statistics[2 * index : 2 * index + 2]
            of_volume, _, _ = torch.ops.aten.native_batch_norm_backward(
                outer, volume, None, None, None, mean, inverse_deviation, True, _EPSILON, (True, False, False)
            )
            inner.copy_(of_volume)
        return gradients


class PointwiseConv3d(nn.Conv3d):
    """1×1×1 convolution without bias; on a CPU as the matrix product that it is in channels_last_3d.

    There torch's own gives up the memory format when it computes with one thread.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, x, y, z) → (batch, out, x, y, z)."""
        if x.device.type != "cpu":
            return super().forward(x)
        return F.linear(x.movedim(1, -1), self.weight.flatten(1)).movedim(-1, 1)


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv3d:
    """Make a convolution without bias that keeps the grid (at stride 1)."""
    if kernel_size == stride == 1:
        return PointwiseConv3d(in_channels, out_channels, 1, bias=False)
    return nn.Conv3d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


class DownBlock(nn.Module):
    """Residual encoder block; where it changes shape, the residual goes through a 1×1×1 block."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv_1 = convolution(in_channels, out_channels, 3, stride)
        self.conv_2 = convolution(out_channels, out_channels, 3)
        changes_shape = stride != 1 or in_channels != out_channels
        self.down = convolution(in_channels, out_channels, 1, stride) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, x, y, z) → (batch, out, x/stride, y/stride, z/stride)."""
        activated = activate(x)
        residual = x if self.down is None else self.down(activated)
        return self.conv_2(activate(self.conv_1(activated))) + residual


class UpBlock(nn.Module):
    """1×1×1 block → trilinear ×2 → add the encoder's output of that resolution → residual pair."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = convolution(in_channels, out_channels, 1)
        self.conv_1 = convolution(out_channels, out_channels, 3)
        self.conv_2 = convolution(out_channels, out_channels, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x (batch, in, x, y, z), skip (batch, out, 2x, 2y, 2z) → skip's shape."""
        x = self.upsample(activate(x))
        # Sums are taken in float32 in any case; autocast on a CPU would make the result float32, and all after it.
        with torch.autocast(x.device.type, enabled=False):
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True) + skip
        return x + self.conv_2(activate(self.conv_1(activate(x))))
