"""The value that a finished training leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint does not fit what it is loaded into."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name, and what made them.

    ``metadata`` is plain JSON: the network and its arguments, seed, training parameters, the fingerprint of
    the cohort, library versions.
    """

    weights: dict[str, Tensor]
    metadata: dict[str, Any]


def load_weights(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy ``weights`` into ``network``; ``source`` names them in the error.

    Raises:
        CheckpointError: if names or shapes differ; the message lists every tensor that does.
    """
    expected = network.state_dict()
    problems = [f"{name}: missing in the checkpoint" for name in expected.keys() - weights.keys()]
    problems += [f"{name}: not in the network" for name in weights.keys() - expected.keys()]
    problems += [
        f"{name}: checkpoint {tuple(weights[name].shape)}, network {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise CheckpointError(
            f"{source} does not fit {type(network).__name__}; these tensors differ:\n  {listed}\n"
            "Use the network arguments that the checkpoint's metadata names, or train a new checkpoint."
        )
    network.load_state_dict(weights)
