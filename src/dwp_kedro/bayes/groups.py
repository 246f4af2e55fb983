"""Kernel groups: 3×3×3 convolutions that see their input at the same resolution (Kuzina et al. 2019, 2.7.2).

Each group has a prior of its own; encoder and decoder are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class KernelGroup:
    """Layers that share a prior, in the order in which the network calls them.

    ``name`` counts from ``group_1``; ``label`` says where the group lies, for example ``encoder 1/4``.
    """

    name: str
    label: str
    layers: tuple[str, ...]


def is_kernel_layer(module: nn.Module) -> bool:
    """Whether the module is a convolution of 3×3×3 kernels."""
    return isinstance(module, nn.Conv3d) and module.kernel_size == (3, 3, 3)


@torch.no_grad()
def kernel_groups(network: nn.Module, in_channels: int, side: int = 16) -> tuple[KernelGroup, ...]:
    """Find the groups from one pass over an empty cube of ``side`` voxels.

    A layer's group is the side of its input relative to the network's, and whether the resolution has risen
    yet on the way to it (the decoder) or not (the encoder). For the paper's U-Net these are its seven groups.
    """
    found: dict[tuple[str, Fraction], list[str]] = {}
    resolutions: list[int] = []
    in_decoder = False

    def record(name: str, x: Tensor) -> None:
        nonlocal in_decoder
        in_decoder = in_decoder or bool(resolutions and x.shape[-1] > resolutions[-1])
        resolutions.append(x.shape[-1])
        part = "decoder" if in_decoder else "encoder"
        found.setdefault((part, Fraction(x.shape[-1], side)), []).append(name)

    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: record(name, args[0]))
        for name, module in network.named_modules()
        if is_kernel_layer(module)
    ]
    try:
        reference = next(network.parameters())
        network(torch.zeros(1, in_channels, side, side, side, device=reference.device, dtype=reference.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(
        KernelGroup(f"group_{number}", f"{part} {scale.numerator}/{scale.denominator}", tuple(layers))
        for number, ((part, scale), layers) in enumerate(found.items(), start=1)
    )


def layer_kernels(weight: Tensor) -> Tensor:
    """Weight (out, in, 3, 3, 3) → its kernels (out·in, 27), output channel first."""
    return weight.reshape(-1, 27)
