"""What a training's data are made of, and what may be done to a batch of them before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from dwp_kedro.training.seeds import make_generator

Column = Tensor | Sequence[Tensor]
"""One thing of all rows, for example their images: a tensor (rows, …), or rows of different sizes one by one."""


class Transform(Protocol):
    """A random change of a batch, for example an augmentation."""

    def __call__(self, batch: tuple[Column, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the changed tensors of a batch, which lie in the main memory; the given ones stay as they are.

        All randomness comes from ``seed``, 0 ≤ ``seed`` < 2³². Called in a background thread, which on a CPU is
        one OpenMP thread.
        """

    def settings(self) -> dict[str, Any]:
        """Plain values that the change depends on, besides batch and seed: a resumed training needs the same."""


class InTurn:
    """Several transforms, one after the other, each with a seed of its own."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._transforms = tuple(transforms)

    def __call__(self, batch: tuple[Column, ...], seed: int) -> tuple[Tensor, ...]:
        """Return what the last transform returns."""
        for number, transform in enumerate(self._transforms):
            batch = transform(batch, short_seed(seed, f"transform {number}"))
        return stacked(batch)

    def settings(self) -> dict[str, Any]:
        """Those of every transform."""
        return {"in_turn": [transform.settings() for transform in self._transforms]}


def short_seed(seed: int, purpose: str) -> int:
    """Return a seed for ``purpose`` of 32 bits, which is what NumPy's generators, used by transforms, take."""
    return make_generator(seed, purpose).initial_seed() % 2**32


def stacked(batch: tuple[Column, ...]) -> tuple[Tensor, ...]:
    """Make one tensor of every column.

    Raises:
        ValueError: if rows of a batch differ in size.
    """
    return tuple(column if isinstance(column, Tensor) else _stack(column) for column in batch)


def _stack(rows: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(row.shape) for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"rows of the shapes {' and '.join(map(str, sorted(shapes)))} are in one batch: give preprocessing a "
            "grid, or set patches"
        )
    return torch.stack(list(rows))
