from __future__ import annotations

import math

import pytest
import torch

from dwp_kedro.training.losses import dice_cross_entropy, hard_dice


def _half(shape=(1, 4, 4, 4)) -> torch.Tensor:
    labels = torch.zeros(shape, dtype=torch.uint8)
    labels[:, :2] = 1
    return labels


def test_undecided_logits_have_the_value_worked_out_by_hand():
    labels = _half()
    loss = dice_cross_entropy(torch.zeros(1, 2, 4, 4, 4), labels, dice_weight=0.75)
    # Soft Dice: 2·Σ(½·truth) / (Σ½ + Σtruth) = 32/64; cross-entropy: log 2.
    assert loss.item() == pytest.approx(0.75 * 0.5 + 0.25 * math.log(2), rel=1e-5)


def test_cross_entropy_is_a_mean_so_the_loss_does_not_grow_with_the_volume():
    small = dice_cross_entropy(torch.zeros(1, 2, 4, 4, 4), _half())
    large = dice_cross_entropy(torch.zeros(1, 2, 8, 8, 8), _half((1, 4, 4, 4)).repeat(1, 2, 2, 2))
    torch.testing.assert_close(small, large)


def test_dice_is_taken_per_volume_then_averaged():
    labels = torch.cat([_half(), torch.zeros(1, 4, 4, 4, dtype=torch.uint8)])
    labels[1, 0, 0, 0] = 1
    logits = torch.full((2, 2, 4, 4, 4), -20.0)
    logits[:, 1] = torch.where(_half() == 1, 20.0, -40.0)
    # First volume perfect; in the second, 1 of 32 predicted voxels is right: 2/33.
    assert dice_cross_entropy(logits, labels, 1.0).item() == pytest.approx(1 - (1 + 2 / 33) / 2, rel=1e-3)


def test_background_does_not_count():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    labels[0, 0, 0, 0] = 1
    all_background = torch.zeros_like(labels)
    assert hard_dice(all_background, labels, 2).item() == pytest.approx(0, abs=1e-4)
    assert hard_dice(labels, labels, 2).item() == pytest.approx(1)


def test_classes_are_averaged():
    truth = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    truth[0, 0], truth[0, 1] = 1, 2
    found = truth.clone()
    found[0, 1] = 0
    assert hard_dice(found, truth, 3).item() == pytest.approx(0.5, abs=1e-4)
