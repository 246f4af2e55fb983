"""Segmentation loss and the overlap that is watched during training."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_SMOOTH = 1e-5


def dice_cross_entropy(logits: Tensor, labels: Tensor, dice_weight: float = 0.99) -> Tensor:
    """``dice_weight``·(1 − soft Dice) + (1 − ``dice_weight``)·cross-entropy (Kuzina et al. 2019, 2.7.1).

    Soft Dice of each foreground class and volume, averaged over classes, then over the batch; cross-entropy
    averaged over voxels (a sum, as the paper prints it, would drown the Dice term).

    Args:
        logits: (batch, classes, x, y, z), class 0 the background.
        labels: (batch, x, y, z), whole numbers below ``classes``.
    """
    labels = labels.long()
    cross_entropy = F.cross_entropy(logits, labels)
    probability = logits.softmax(1)[:, 1:]
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(probability.dtype)
    dice = _dice(probability, truth)
    return dice_weight * (1 - dice.mean()) + (1 - dice_weight) * cross_entropy


def hard_dice(prediction: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Dice similarity of label maps (batch, x, y, z), averaged over foreground classes; (batch,)."""
    predicted = F.one_hot(prediction.long(), n_classes).movedim(-1, 1)[:, 1:].float()
    truth = F.one_hot(labels.long(), n_classes).movedim(-1, 1)[:, 1:].float()
    return _dice(predicted, truth).mean(1)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    """Dice of (batch, classes, x, y, z) memberships, (batch, classes); two empty ones agree."""
    axes = (2, 3, 4)
    overlap, total = (a * b).sum(axes), a.sum(axes) + b.sum(axes)
    return (2 * overlap + _SMOOTH) / (total + _SMOOTH)
