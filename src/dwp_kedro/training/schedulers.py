"""The learning rate along a training."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ReduceLROnPlateau

from dwp_kedro.training.settings import Schedule

Scheduler = ReduceLROnPlateau | CosineAnnealingLR | ConstantLR


def make_scheduler(schedule: Schedule, optimiser: torch.optim.Optimizer) -> Scheduler:
    """Return what sets the optimiser's learning rate: a plateau's after each epoch, others after each step."""
    if schedule.kind == "plateau":
        return ReduceLROnPlateau(
            optimiser,
            factor=schedule.factor,
            patience=schedule.patience,
            threshold=schedule.threshold,
            threshold_mode="abs",  # a share of a negative data term, as kernel VAEs have, would be no progress
            min_lr=[schedule.min_learning_rate * group["rate"] for group in optimiser.param_groups],
        )
    if schedule.kind == "cosine":
        assert schedule.max_steps is not None
        return CosineAnnealingLR(optimiser, T_max=schedule.max_steps, eta_min=schedule.min_learning_rate)
    return ConstantLR(optimiser, factor=1.0)
