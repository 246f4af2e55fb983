"""Noise from a generator, wherever that and the tensors live."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def standard_normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw N(0, 1) of ``shape`` on the generator's device; return it on the device and in the type of ``like``."""
    noise = torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=like.dtype)
    return noise.to(like.device)
