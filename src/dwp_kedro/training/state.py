"""The state of an unfinished training on disk, so that a killed one goes on where it was.

One safetensors file holds weights, optimiser moments and generators as tensors, and the rest as JSON. It is
written under another name and renamed, so a half-written one never counts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dwp_kedro.atomic_write import atomic_file
from dwp_kedro.training.transform import Column


class StateError(ValueError):
    """The state of a training cannot be read; the message names its file and what to do."""


@dataclass(frozen=True)
class State:
    """Everything a training needs to go on, bit for bit on a CPU."""

    tensors: dict[str, Tensor]
    progress: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix``, under the rest of their names."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def fingerprint(settings: dict[str, Any], data: tuple[Column, ...], module: nn.Module) -> str:
    """Hash of what a training is made of: settings, data, starting weights and the code that trains."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(code_digest(Path(__file__).parents[1]).encode())
    columns = ((str(i), [c] if isinstance(c, Tensor) else c) for i, c in enumerate(data))
    weights = ((name, [tensor]) for name, tensor in module.state_dict().items())
    for name, tensors in (*columns, *weights):
        for tensor in tensors:
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()


def code_digest(package: Path) -> str:
    """Hash of all that computes a training: the modules of networks, bayes and training, and torch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(
        path for room in ("bayes", "networks", "training") for path in (package / room).glob("*.py")
    ):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def capture(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    observed: dict[str, Tensor],
    progress: dict[str, Any],
) -> State:
    """Collect the state of a training between two epochs; ``observed`` is what its observer has gathered."""
    tensors = {f"module/{name}": tensor for name, tensor in module.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in moments.items()}
    tensors |= {f"generator/{name}": generator.get_state() for name, generator in generators.items()}
    tensors |= {f"observer/{name}": tensor for name, tensor in observed.items()}
    return State(tensors, progress)


def restore(
    state: State,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
) -> None:
    """Put a captured state back, all but what the observer had gathered."""
    module.load_state_dict(state.part("module/"))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.part("optimiser/").items():
        index, name = key.split("/")
        moments.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    for name, generator in generators.items():
        generator.set_state(state.tensors[f"generator/{name}"].cpu())


def write_state(state: State, path: Path, made_of: str) -> None:
    """Write a state whole or not at all; ``made_of`` is the training's fingerprint.

    Raises:
        WriteError: if the disk is full, or the place must not be written to.
    """
    # Clones, because a network may hold a layer under two names and the format takes no shared memory.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.tensors.items()}
    content = save(tensors, metadata={"made_of": made_of, "progress": json.dumps(state.progress)})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def read_state(path: Path, made_of: str) -> State | None:
    """Read the state at ``path``; None if there is none, or one of another training.

    Raises:
        StateError: the file is damaged, or no state that :func:`write_state` wrote. It is never unpickled.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("made_of") != made_of:
                return None
            progress = json.loads(metadata["progress"])
            return State({name: file.get_tensor(name) for name in file.keys()}, progress)  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise StateError(
            f"{path} is no whole state of a training ({error}). Delete it: the training then starts anew."
        ) from error
