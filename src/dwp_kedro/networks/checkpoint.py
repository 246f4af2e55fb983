"""The value that a finished training leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
_SMALL = 10_000_000  # numbers; a network of so many can be built only to say what is wrong with it


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
    source: str = field(default="", compare=False)
    """File it came from, for messages; empty where there is none."""


def build_network(make: Callable[[], Network], weights: Mapping[str, Tensor], source: str) -> Network:
    """Make a network of arguments that come from a file, if it is small or no larger than the file's ``weights``.

    Raises:
        CheckpointError: the arguments make no network, or a large one with more numbers than the file has; no
            memory was taken for it. The message names ``source``.
    """
    try:
        with torch.device("meta"):
            n_numbers = sum(tensor.numel() for tensor in make().state_dict().values())
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f"{source} describes no network that can be built ({error}). Ask for the file again, or make it anew."
        ) from error
    n_given = sum(tensor.numel() for tensor in weights.values())
    if n_numbers > max(n_given, _SMALL):
        raise CheckpointError(
            f"{source} does not fit: the network that its metadata describe has {n_numbers} numbers, its weights "
            f"are {n_given}. Ask for the file again, or make it anew."
        )
    return make()


def load_weights(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy ``weights`` into ``network``.

    Raises:
        CheckpointError: if names, shapes or data types differ, or numbers are NaN or infinite; the message names
            ``source`` and lists every tensor.
    """
    expected = network.state_dict()
    problems = [f"{name}: missing in the checkpoint" for name in expected.keys() - weights.keys()]
    problems += [f"{name}: not in the network" for name in weights.keys() - expected.keys()]
    for name in expected.keys() & weights.keys():
        given, meant = weights[name], expected[name]
        if given.shape != meant.shape:
            problems.append(f"{name}: checkpoint {tuple(given.shape)}, network {tuple(meant.shape)}")
        elif given.dtype != meant.dtype:
            problems.append(f"{name}: checkpoint {given.dtype}, network {meant.dtype}")
        elif not torch.isfinite(given).all():
            problems.append(f"{name}: holds NaN or infinite numbers")
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise CheckpointError(
            f"{source} does not fit {type(network).__name__}; these tensors differ:\n  {listed}\n"
            "Use the network arguments that the checkpoint's metadata names, or train a new checkpoint."
        )
    network.load_state_dict(weights)
