"""Blocks of the U-Net (Kuzina et al. 2019, Fig. 1 and App. B).

The paper's convolution block is InstanceNorm (no affine) → ReLU → convolution without bias. The first two hold
no parameters, so they are the function :func:`activate`, and a block's members are plain convolutions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def activate(x: Tensor) -> Tensor:
    """InstanceNorm without affine, then ReLU; any (batch, channels, x, y, z)."""
    return F.relu(F.instance_norm(x), inplace=True)


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv3d:
    """Make a convolution without bias that keeps the grid (at stride 1)."""
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
        x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True) + skip
        return x + self.conv_2(activate(self.conv_1(activate(x))))
