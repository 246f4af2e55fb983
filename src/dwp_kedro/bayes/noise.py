"""Noise from a generator, wherever that and the tensors live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

_CHUNK = 2**19  # numbers; a chunk takes milliseconds, so a thread for it pays


def standard_normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw N(0, 1) of ``shape`` on the generator's device; return it on the device and in the type of ``like``.

    On a CPU a generator gives its numbers one after the other, so many of them come in chunks, each from a
    generator of its own that is seeded by the given one, on as many threads as torch computes with. Their number
    changes no bit.
    """
    device, count = generator.device, math.prod(shape)
    if device.type != "cpu" or count < 2 * _CHUNK:
        return torch.randn(tuple(shape), generator=generator, device=device, dtype=like.dtype).to(like.device)
    noise = torch.empty(count, dtype=like.dtype)
    chunks = noise.split(_CHUNK)
    seeds = torch.randint(2**63 - 1, (len(chunks),), generator=generator).tolist()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(_fill, chunks, seeds))
    return noise.view(tuple(shape)).to(like.device)


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw N(0, 1) of the shape, memory layout, type and device of ``x``, whose elements lie densely."""
    return standard_normal((x.numel(),), generator, x).as_strided(x.shape, x.stride())


def _fill(chunk: Tensor, seed: int) -> None:
    chunk.normal_(generator=torch.Generator().manual_seed(seed))
