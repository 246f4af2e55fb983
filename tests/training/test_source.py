from __future__ import annotations

import pytest
import torch

from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.source import bootstrap_sample, mean_dice, new_network, train_source

CPU = Compute(device="cpu")


def test_a_bootstrap_sample_draws_with_replacement_and_by_its_seed():
    sample = bootstrap_sample(200, seed=3)
    assert len(sample) == 200
    assert set(sample) <= set(range(200))
    # Each subject is left out with probability (1 − 1/n)^n ≈ 0.37.
    assert 1 - len(set(sample)) / 200 == pytest.approx(0.37, abs=0.1)
    assert sample == bootstrap_sample(200, seed=3) != bootstrap_sample(200, seed=4)


def _bright_cubes(n: int = 4):
    images = torch.zeros(n, 1, 16, 16, 16)
    labels = torch.zeros(n, 16, 16, 16, dtype=torch.uint8)
    for i in range(n):
        images[i, 0, i : i + 6, 4:10, 4:10] = 1
        labels[i, i : i + 6, 4:10, 4:10] = 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images + 0.1 * noise, labels


def test_training_learns_and_l2_shrinks_the_kernels():
    images, labels = _bright_cubes()
    spreads = []
    for l2 in (0.0, 0.03):
        network = new_network(1, 2, (4, 4, 4, 4), seed=0)
        before = mean_dice(network, images, labels, task="score", compute=CPU)
        history = train_source(
            network,
            images,
            labels,
            task="train",
            schedule=Schedule(kind="cosine", learning_rate=0.01, max_steps=40),
            batch_size=2,
            dice_weight=0.99,
            l2=l2,
            seed=0,
            compute=CPU,
            rows=range(4),
        )
        assert mean_dice(network, images, labels, task="score", compute=CPU) > max(0.6, before)
        assert history.rows[-1]["loss"] < history.rows[0]["loss"]
        assert {"step", "loss", "data_term", "train_dsc", "learning_rate"} <= history.rows[0].keys()
        spreads.append(network.down6.conv_1.weight.std().item())
    assert spreads[1] < 0.8 * spreads[0]
