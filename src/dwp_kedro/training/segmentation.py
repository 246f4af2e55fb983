"""Training of a plain network on labelled volumes, and prediction with any trained one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.progress import track
from dwp_kedro.training.loop import make_fabric
from dwp_kedro.training.losses import dice_cross_entropy, hard_dice
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute


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


def predict(
    network: nn.Module,
    images: Callable[[int], Tensor],
    n_volumes: int,
    *,
    task: str,
    compute: Compute,
    n_samples: int = 0,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Yield the class probabilities (classes, x, y, z) of whole volumes, one at a time.

    Args:
        network: a plain network, or a Bayesian one.
        images: gives the i-th volume (channels, x, y, z).
        n_volumes: how many there are.
        task: what progress calls it.
        compute: device and precision.
        n_samples: weight samples whose probabilities are averaged (Bayesian networks); 0 is one pass at the
            posterior mean. The same samples serve all volumes.
        seed: of the weight samples.
    """
    fabric = make_fabric(compute)
    network = network.to(fabric.device).eval()
    for index in track(range(n_volumes), task):
        volume = fabric.to_device(images(index))[None]
        # The block must not enclose a yield: it would switch gradients off for whoever asks.
        with torch.no_grad(), fabric.autocast():
            probability = _probability(
                network, volume, n_samples, make_generator(seed, "prediction", fabric.device)
            )
        yield probability[0].cpu()


def _probability(network: nn.Module, volume: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
    if n_samples == 0 or not isinstance(network, BayesianNetwork):
        return network(volume).float().softmax(1)
    total = torch.zeros((), device=volume.device)
    for _ in range(n_samples):
        with network.weight_sample(generator):
            total = total + network(volume).float().softmax(1)
    return total / n_samples
