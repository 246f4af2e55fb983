"""Source networks: those whose kernels the prior learns from, and those that ``pr`` starts from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dwp_kedro.networks.unet import UNet3D, initialise_he
from dwp_kedro.training.loop import History, train
from dwp_kedro.training.losses import hard_dice
from dwp_kedro.training.prediction import Inferer, predict, see_whole
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.segmentation import SegmentationObjective
from dwp_kedro.training.settings import Compute, Schedule, SnapshotSettings
from dwp_kedro.training.snapshots import Snapshots
from dwp_kedro.training.transform import Column, Transform

SOURCE_START = "initial weights of a source network"
"""Purpose of their generator: a grid cell with the seed of a source network starts from other weights."""


def bootstrap_sample(n_subjects: int, seed: int) -> list[int]:
    """Draw ``n_subjects`` indices with replacement, sorted (Kuzina et al.'s poster; Breiman 1996)."""
    return sorted(np.random.default_rng([seed, n_subjects]).integers(0, n_subjects, n_subjects).tolist())


def whole_seed(seed: int, index: int) -> int:
    """Seed of network ``index`` on the whole source set: none of the small numbers that others are seeded with."""
    return make_generator(seed, f"network {index} on the whole source set").initial_seed()


def new_network(
    in_channels: int,
    out_channels: int,
    channels: tuple[int, int, int, int],
    seed: int,
    purpose: str = "initial weights",
) -> UNet3D:
    """Return a U-Net with He's weights, drawn from ``seed`` for ``purpose``."""
    network = UNet3D(in_channels, out_channels, channels)
    initialise_he(network, make_generator(seed, purpose))
    return network


@torch.no_grad()
def similarity_to_start(network: nn.Module, start: nn.Module) -> float:
    """Cosine between a network's kernels and those it began with, a mean over its 3×3×3 layers.

    Near 1, the kernels are mostly the random numbers of the start, and a prior that is learnt from them knows
    little else.
    """
    pairs = zip(network.parameters(), start.parameters(), strict=True)
    layers = [(now.flatten(), then.flatten()) for now, then in pairs if now.shape[2:] == (3, 3, 3)]
    return torch.stack([torch.cosine_similarity(now, then, dim=0) for now, then in layers]).mean().item()


def train_source(
    network: nn.Module,
    data: tuple[Column, ...],
    *,
    task: str,
    schedule: Schedule,
    batch_size: int,
    dice_weight: float,
    l2: float,
    seed: int,
    compute: Compute,
    rows: Sequence[int],
    transform: Transform | None = None,
    gradient_norm: float | None = None,
) -> History:
    """Train ``network`` in place on ``rows`` of ``data``.

    The data are images (n, channels, x, y, z) and labels (n, x, y, z), or what ``transform`` makes such of.
    """
    return train(
        SegmentationObjective(network, dice_weight),
        data,
        task=task,
        batch_size=batch_size,
        schedule=schedule,
        seed=seed,
        compute=compute,
        l2=l2,
        gradient_norm=gradient_norm,
        rows=rows,
        transform=transform,
    )


def collect_source_posterior(
    network: nn.Module,
    data: tuple[Column, ...],
    *,
    task: str,
    snapshots: SnapshotSettings,
    batch_size: int,
    dice_weight: float,
    l2: float,
    seed: int,
    compute: Compute,
    transform: Transform | None = None,
    gradient_norm: float | None = None,
) -> tuple[dict[str, Tensor], History]:
    """Train a copy of a converged network on and describe where its weights go by a Gaussian (SWAG).

    Maddox et al. 2019, Algorithm 1, but for the optimiser, which is Adam here. ``network`` itself stays as it is.

    Args:
        network: trained on the same data.
        data: images (n, channels, x, y, z) and labels (n, x, y, z), or what ``transform`` makes such of.
        task: what progress calls it.
        snapshots: how many, how far apart, at what constant learning rate.
        batch_size: as in the network's own training, and so are the following.
        dice_weight: of the loss.
        l2: penalty on all weights.
        seed: of the order of the volumes and of ``transform``.
        compute: where to train; a killed training goes on from its saved state.
        transform: changes each batch.
        gradient_norm: largest norm of the gradient; None: any.

    Returns:
        ``mean/``, ``variance/`` and ``deviations/{parameter}`` (see :meth:`Snapshots.gaussian`), and the curves.
    """
    trained = copy.deepcopy(network)
    observer = Snapshots(trained, snapshots)
    history = train(
        SegmentationObjective(trained, dice_weight),
        data,
        task=task,
        batch_size=batch_size,
        schedule=snapshots.schedule,
        seed=seed,
        compute=compute,
        l2=l2,
        gradient_norm=gradient_norm,
        transform=transform,
        observer=observer,
    )
    return observer.gaussian(), history


def mean_dice(
    network: nn.Module,
    images: Callable[[int], Tensor],
    labels: Callable[[int], Tensor],
    n_volumes: int,
    *,
    task: str,
    compute: Compute,
    infer: Inferer = see_whole,
) -> float:
    """Mean Dice similarity over volumes, and over foreground classes.

    ``images`` gives the i-th volume (channels, x, y, z), ``labels`` its label map (x, y, z).
    """
    predictions = predict([network], images, n_volumes, task=task, compute=compute, infer=infer)
    probabilities = (prediction.probability for prediction in predictions)
    scores = [hard_dice(p.argmax(0)[None], labels(i)[None], len(p)) for i, p in enumerate(probabilities)]
    return torch.cat(scores).mean().item()
