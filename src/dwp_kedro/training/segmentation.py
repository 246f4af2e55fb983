"""Training of a plain network on labelled volumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dwp_kedro.training.losses import dice_cross_entropy, hard_dice
from dwp_kedro.training.objective import Objective


class SegmentationObjective(Objective):
    """The loss of a plain network: its data term and nothing else."""

    def __init__(self, network: nn.Module, dice_weight: float) -> None:
        super().__init__()
        self.network, self.dice_weight = network, dice_weight

    def settings(self) -> dict[str, Any]:
        """Weight of the Dice term."""
        return {"dice_weight": self.dice_weight}

    def forward(self, *batch: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Take images (batch, channels, x, y, z) and labels (batch, x, y, z)."""
        images, labels = batch
        logits = self.network(images)
        data_term = dice_cross_entropy(logits.float(), labels, self.dice_weight)
        return {"loss": data_term, "data_term": data_term.detach(), "train_dsc": batch_dice(logits, labels)}


@torch.no_grad()
def batch_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean hard Dice of a batch; a scalar."""
    return hard_dice(logits.argmax(1), labels, logits.shape[1]).mean()
