"""The same function with weights of He's size.

Instance norm divides by the size of what it is given. So the size of ``conv_1``'s weights in a block, and the
common size of all weights whose results are summed up before a norm, change nothing in what :class:`UNet3D`
computes, but for the norm's ε (van Laarhoven 2017, arXiv:1706.05350). They do change how it learns: a penalty on
weights shrinks them for nothing, and the smaller they are, the farther a step of Adam turns them. A training that
starts at such weights has forgotten them after some steps, and a prior of kernels has to know sizes that mean
nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dwp_kedro.networks.unet import UNet3D

# What is summed up at each resolution, finest first. All of it is normed where it is read; `out` alone reads the
# first without a norm.
_SUMMED = (
    ("init_conv", "up3.upsample", "up3.conv_2"),
    ("down1.conv_2", "down1.down", "down2.conv_2", "up2.upsample", "up2.conv_2"),
    ("down3.conv_2", "down3.down", "down4.conv_2", "up1.upsample", "up1.conv_2"),
    ("down5.conv_2", "down5.down", "down6.conv_2"),
)


@torch.no_grad()
def balance(network: UNet3D) -> None:
    """Give a network's weights He's size, in place, and leave what it computes.

    With r = √(mean w² · fan_in / 2), a layer's root mean square relative to He's: ``conv_1`` of every block is
    divided by its r; layers that are summed up are divided by one number, the geometric mean of their r; and
    ``out`` is multiplied by that of the layers which it reads.

    Raises:
        ValueError: all weights of a layer are zero, or one is not finite.
    """
    layers = {name.removesuffix(".weight"): weight for name, weight in network.named_parameters()}
    for name, weight in layers.items():
        if name.endswith(".conv_1"):
            weight /= _relative_size(name, weight)
    for number, names in enumerate(_SUMMED):
        size = torch.stack([_relative_size(name, layers[name]) for name in names]).log().mean().exp()
        for name in names:
            layers[name] /= size
        if number == 0:
            layers["out"] *= size


def _relative_size(name: str, weight: Tensor) -> Tensor:
    size = (weight.square().mean() * weight[0].numel() / 2).sqrt()
    if not (size.isfinite() and size > 0):
        raise ValueError(f"layer {name} has no size to be changed: root mean square {float(size):g}")
    return size
