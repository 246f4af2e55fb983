"""The precision that suits a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

Precision = Literal["32-true", "bf16-mixed"]

_BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# On a CPU, oneDNN (as of torch 2.13) leaves memory uninitialised, or overruns it, where it computes the gradient
# of 3×3×3 kernels in bfloat16 on a grid of two voxels along its first axis. Networks here halve three times.
_SMALLEST_CPU_SIDE = 24  # voxels


def resolve_precision(
    asked: Literal["auto", "32-true", "bf16-mixed"], device: torch.device, shape: Sequence[int]
) -> Precision:
    """Return the precision to compute data of ``shape`` in.

    Volumes (…, x, y, z) get what is asked for; ``auto`` is :func:`best_precision`, or float32 where bfloat16 is
    not safe. Data of fewer than four axes, like kernels (n, 27), are small and always computed in float32.

    Raises:
        ValueError: if bfloat16 is asked for and is not safe: on a CPU with fewer than 24 voxels along an axis.
    """
    if len(shape) < 4:
        return "32-true"
    volume = shape[-3:]
    is_safe = device.type != "cpu" or min(volume) >= _SMALLEST_CPU_SIDE
    if asked == "bf16-mixed" and not is_safe:
        raise ValueError(
            f"compute.precision is bf16-mixed, and the volumes are {'×'.join(map(str, volume))}: on a CPU "
            f"bfloat16 needs at least {_SMALLEST_CPU_SIDE} voxels along every axis. Set it to auto or 32-true."
        )
    if asked != "auto":
        return asked
    return best_precision(device) if is_safe else "32-true"


def best_precision(device: torch.device) -> Precision:
    """Return ``bf16-mixed`` where the hardware computes in bfloat16, else ``32-true``.

    Without such instructions bfloat16 is emulated, and slower than float32.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed"
    if device.type == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in _BFLOAT16_INSTRUCTIONS):
        return "bf16-mixed"
    return "32-true"
