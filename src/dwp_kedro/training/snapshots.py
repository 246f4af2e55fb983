"""Snapshots of a network's weights along its training, as a Gaussian (SWAG, Maddox et al. 2019)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from dwp_kedro.training.settings import SnapshotSettings


class Snapshots:
    """Moments and last deviations of the weights of a network that is trained (Algorithm 1).

    As there, the weights at the start count as one model: the moments are those of ``n_snapshots`` + 1 of them.
    Everything lies in the main memory; the moments are float64, because the variance is a small difference of
    large numbers.
    """

    def __init__(self, network: nn.Module, settings: SnapshotSettings) -> None:
        self._network, self._settings = network, settings
        self._mean = self._weights()
        self._second_moment = {name: weight.square() for name, weight in self._mean.items()}
        self._deviations = {name: torch.zeros(0, *weight.shape) for name, weight in self._mean.items()}

    def after_step(self, step: int) -> None:
        """Take a snapshot, if one is due after the training's step number ``step``."""
        if step % self._settings.every_steps:
            return
        n = step // self._settings.every_steps
        for name, weight in self._weights().items():
            mean = (n * self._mean[name] + weight) / (n + 1)
            self._mean[name] = mean
            self._second_moment[name] = (n * self._second_moment[name] + weight.square()) / (n + 1)
            deviations = torch.cat([self._deviations[name], (weight - mean).float()[None]])
            self._deviations[name] = deviations[-self._settings.rank :]

    def gaussian(self) -> dict[str, Tensor]:
        """Weights of a source posterior's file, float32, for every parameter of the network.

        ``mean/{parameter}``, ``variance/{parameter}`` (E[w²] − E[w]², at least 0) and
        ``deviations/{parameter}`` (rank, *shape): the last snapshots less the means at their time, oldest first.
        """
        variance = {
            name: (self._second_moment[name] - mean.square()).clamp_min(0) for name, mean in self._mean.items()
        }
        parts = {"mean": self._mean, "variance": variance, "deviations": self._deviations}
        return {
            f"{part}/{name}": tensor.float() for part, tensors in parts.items() for name, tensor in tensors.items()
        }

    def settings(self) -> dict[str, Any]:
        """How many snapshots, how far apart, how many deviations."""
        return asdict(self._settings)

    def state_dict(self) -> dict[str, Tensor]:
        """All that was gathered so far."""
        return {
            f"{part}/{name}": tensor for part, tensors in self._parts().items() for name, tensor in tensors.items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what was gathered."""
        for part, tensors in self._parts().items():
            for name in tensors:
                tensors[name] = state[f"{part}/{name}"]

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return {"mean": self._mean, "second_moment": self._second_moment, "deviations": self._deviations}

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: parameter.detach().cpu().to(torch.float64, copy=True)
            for name, parameter in self._network.named_parameters()
        }
