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
    """Find the groups of any network from one pass over an empty cube of ``side`` voxels.

    A layer's group is the grid of its input relative to the network's, and whether the resolution has risen yet
    (the decoder) or not (the encoder): whether, in the order of the calls, some convolution of any kernel has put
    out a larger grid than the one before it. A layer that is called more than once counts where it is called
    first. For the paper's U-Net these are its seven groups. The network is left as it was.

    Raises:
        ValueError: if the network fails on that cube, which may be too small for it: with more than three halvings
            and instance norm, 16 voxels are. The message has the network's error.
    """
    found: dict[tuple[str, tuple[Fraction, ...]], list[str]] = {}
    seen: set[str] = set()
    in_decoder, last_size = False, side**3

    def record(name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        nonlocal in_decoder, last_size
        size = y.shape[2:].numel()
        # Squeeze-and-excitation weighs channels by convolutions of one voxel, from which nothing rises.
        if size > 1 or is_kernel_layer(module):
            # Of outputs, because the shortcut of a strided block may be called last, on that block's larger input.
            in_decoder, last_size = in_decoder or size > last_size, size
        if is_kernel_layer(module) and name not in seen:
            part = "decoder" if in_decoder else "encoder"
            found.setdefault((part, tuple(Fraction(n, side) for n in x.shape[2:])), []).append(name)
            seen.add(name)

    handles = [
        module.register_forward_hook(lambda module, args, y, name=name: record(name, module, args[0], y))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
    ]
    in_training = [module for module in network.modules() if module.training]
    try:
        network.eval()  # statistics of batches stay untouched, and dropout draws no noise
        reference = next(network.parameters())
        network(torch.zeros(1, in_channels, side, side, side, device=reference.device, dtype=reference.dtype))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the network fails on a cube of {side} voxels a side ({error}); if that is too small for it, give "
            "kernel_groups a larger side"
        ) from error
    finally:
        for module in in_training:
            module.training = True
        for handle in handles:
            handle.remove()
    return tuple(
        KernelGroup(f"group_{number}", f"{part} {_words(scale)}", tuple(layers))
        for number, ((part, scale), layers) in enumerate(found.items(), start=1)
    )


def _words(scale: tuple[Fraction, ...]) -> str:
    """``1/4``, or ``1/4×1/4×1/2`` where the axes differ."""
    axes = [f"{size.numerator}/{size.denominator}" for size in scale]
    return axes[0] if len(set(axes)) == 1 else "×".join(axes)


def layer_kernels(weight: Tensor) -> Tensor:
    """Weight (out, in, 3, 3, 3) → its kernels (out·in, 27), output channel first."""
    return weight.reshape(-1, 27)
