"""Source networks: those whose kernels the prior learns from, and those that ``pr`` starts from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dwp_kedro.networks.unet import UNet3D, initialise_he
from dwp_kedro.training.loop import History, train
from dwp_kedro.training.losses import hard_dice
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.segmentation import SegmentationObjective, predict
from dwp_kedro.training.settings import Compute, Schedule


def bootstrap_sample(n_subjects: int, seed: int) -> list[int]:
    """Draw ``n_subjects`` indices with replacement, sorted (Kuzina et al.'s poster; Breiman 1996)."""
    return sorted(np.random.default_rng([seed, n_subjects]).integers(0, n_subjects, n_subjects).tolist())


def new_network(in_channels: int, out_channels: int, channels: tuple[int, int, int, int], seed: int) -> UNet3D:
    """Return a U-Net with He's weights, drawn from ``seed``."""
    network = UNet3D(in_channels, out_channels, channels)
    initialise_he(network, make_generator(seed, "initial weights"))
    return network


def train_source(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    task: str,
    schedule: Schedule,
    batch_size: int,
    dice_weight: float,
    l2: float,
    seed: int,
    compute: Compute,
    rows: Sequence[int],
) -> History:
    """Train ``network`` in place on ``rows`` of images (n, channels, x, y, z) and labels (n, x, y, z)."""
    return train(
        SegmentationObjective(network, dice_weight),
        (images, labels),
        task=task,
        batch_size=batch_size,
        schedule=schedule,
        seed=seed,
        compute=compute,
        l2=l2,
        rows=rows,
    )


def mean_dice(network: nn.Module, images: Tensor, labels: Tensor, *, task: str, compute: Compute) -> float:
    """Mean Dice similarity over volumes, and over foreground classes."""
    probabilities = predict(network, lambda i: images[i], len(images), task=task, compute=compute)
    scores = [hard_dice(p.argmax(0)[None], labels[i][None], len(p)) for i, p in enumerate(probabilities)]
    return torch.cat(scores).mean().item()
