"""What a training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Objective(nn.Module, ABC):
    """A module whose call on a batch gives the terms of its loss."""

    @abstractmethod
    def forward(self, *batch: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of one batch, scalars.

        ``loss`` is what is minimised; ``data_term`` is what schedule and stopping read; others are logged. All
        noise comes from ``generator``.
        """

    def rates(self) -> dict[str, float]:
        """Learning rates of their own, as multiples of the schedule's, by parameter name; no name: 1."""
        return {}

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Plain values that the terms depend on, besides batch and weights: a resumed training needs the same."""
