"""The paper's 3D U-Net: 726,480 parameters at the default widths."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dwp_kedro.networks.blocks import DownBlock, UpBlock, channels_last, convolution


class UNet3D(nn.Module):
    """3D U-Net of Kuzina et al. 2019 (Fig. 1, App. B).

    Every convolution is without bias; ``channels`` are the widths at 1/1, 1/2, 1/4 and 1/8 of the input's
    resolution. Input sides are multiples of 8, and at least 16.

    >>> sum(weight.numel() for weight in UNet3D().parameters())
    726480
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: tuple[int, int, int, int] = (16, 32, 32, 64),
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.channels = in_channels, out_channels, tuple(channels)
        full, half, quarter, eighth = channels
        self.init_conv = convolution(in_channels, full, 3)
        self.down1 = DownBlock(full, half, stride=2)
        self.down2 = DownBlock(half, half, stride=1)
        self.down3 = DownBlock(half, quarter, stride=2)
        self.down4 = DownBlock(quarter, quarter, stride=1)
        self.down5 = DownBlock(quarter, eighth, stride=2)
        self.down6 = DownBlock(eighth, eighth, stride=1)
        self.up1 = UpBlock(eighth, quarter)
        self.up2 = UpBlock(quarter, half)
        self.up3 = UpBlock(half, full)
        self.out = convolution(full, out_channels, 1)

    @property
    def arguments(self) -> dict[str, int | list[int]]:
        """The constructor's arguments, as plain JSON values."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "channels": list(self.channels),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, x, y, z) → logits (batch, out_channels, x, y, z).

        Raises:
            ValueError: if a side of the input is not a multiple of 8 or is smaller than 16.
        """
        require_sides(x, "U-Net")
        if x.device.type == "cpu":
            x = channels_last(x)
        full = self.init_conv(x)
        half = self.down2(self.down1(full))
        quarter = self.down4(self.down3(half))
        eighth = self.down6(self.down5(quarter))
        return self.out(self.up3(self.up2(self.up1(eighth, quarter), half), full))


def require_sides(x: Tensor, network: str) -> None:
    """Refuse volumes (batch, channels, x, y, z) that three halvings with instance norm cannot take.

    Raises:
        ValueError: if a side is not a multiple of 8 or is smaller than 16; the message begins with ``network``.
    """
    if any(side % 8 or side < 16 for side in x.shape[2:]):
        raise ValueError(
            f"the {network} needs sides that are multiples of 8, at least 16; got {tuple(x.shape[2:])}. "
            "Set preprocessing.grid accordingly."
        )


@torch.no_grad()
def initialise_he(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every convolution's weights from N(0, 2 / fan_in) (He et al. 2015, eq. 10), in place.

    All randomness comes from ``generator`` (on the CPU), so that the result depends on its seed alone.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            fan_in = module.weight[0].numel()
            noise = torch.randn(module.weight.shape, generator=generator)
            module.weight.copy_(noise * math.sqrt(2.0 / fan_in))
