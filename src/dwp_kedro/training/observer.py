"""Who watches a training."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Observer(Protocol):
    """Watches a training from step to step; what it gathers is saved and put back with the training's state."""

    def after_step(self, step: int) -> None:
        """Look at the weights that the training's step number ``step`` has made; the first is 1."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that was gathered so far."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what was gathered."""

    def settings(self) -> dict[str, Any]:
        """Plain values that it depends on: a resumed training needs the same."""
