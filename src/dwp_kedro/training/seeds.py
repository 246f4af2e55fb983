"""All randomness of a training comes from its own seed, whatever else runs beside it."""

from __future__ import annotations

import hashlib

import torch


def make_generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator that depends on ``seed`` and ``purpose`` alone; different purposes are independent."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:7], "big"))
