"""What may be done to a batch before a network sees it."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Transform(Protocol):
    """A random change of a batch, for example an augmentation."""

    def __call__(self, batch: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the changed tensors of a batch, which lie in the main memory; the given ones stay as they are.

        All randomness comes from ``seed``, 0 ≤ ``seed`` < 2³². Called in a background thread.
        """

    def settings(self) -> dict[str, Any]:
        """Plain values that the change depends on, besides batch and seed: a resumed training needs the same."""
