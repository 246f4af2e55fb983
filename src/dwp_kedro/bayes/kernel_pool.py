"""Kernels of several sources, each with networks of its own, as one tensor to learn a prior from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.networks.checkpoint import CheckpointError

RESTARTED = "_restarted"
HERE = "this project"
"""What messages call the source of one's own kernels."""


def pool_kernels(own: KernelTensor, further: Mapping[str, KernelTensor]) -> KernelTensor:
    """Put kernels of further sources behind one's own; every kernel counts the same.

    The networks of a further source are called ``{source}/{network}`` from then on, so that two sources may have
    networks of the same name.

    Raises:
        CheckpointError: a network's kernels are there twice; the message names the sources.
    """
    if further and (repeats := find_repeats({HERE: own, **further})):
        raise CheckpointError("; ".join(repeats))
    tensors = [own, *further.values()]
    prefixes = ["", *(f"{source}/" for source in further)]
    return KernelTensor(
        torch.cat([tensor.kernels for tensor in tensors]),
        [prefix + name for prefix, tensor in zip(prefixes, tensors, strict=True) for name in tensor.network],
        [layer for tensor in tensors for layer in tensor.layer],
        torch.cat([tensor.output_channel for tensor in tensors]),
        torch.cat([tensor.input_channel for tensor in tensors]),
    )


def without_positions(kernels: KernelTensor) -> KernelTensor:
    """Sort the kernels of each network's layer by their values, and forget the channels that they joined.

    All that a prior learns from stays; that the rows can no longer be laid out as the layer's weights makes it
    harder, though not provably impossible, to rebuild the network.
    """
    networks, layers = _numbers(kernels.network), _numbers(kernels.layer)
    values = kernels.kernels.flatten(1).numpy()
    order = np.lexsort([*values.T[::-1], layers, networks])  # the last key counts first
    nowhere = torch.zeros(len(order), dtype=torch.int64)
    return KernelTensor(
        kernels.kernels[torch.from_numpy(order)],
        [kernels.network[row] for row in order],
        [kernels.layer[row] for row in order],
        nowhere,
        nowhere,
    )


def heldout_networks(networks: Sequence[str], n_heldout: int) -> set[str]:
    """Return the last ``n_heldout`` networks of every source, in order of appearance, with their restarts.

    A network and its restart share their sample of the scans and most of their history, so they stay together.
    """
    sources: dict[str, dict[str, set[str]]] = {}
    for name in dict.fromkeys(networks):
        source, _, network = name.rpartition("/")
        sources.setdefault(source, {}).setdefault(network.removesuffix(RESTARTED), set()).add(name)
    last = [names for of_source in sources.values() for names in list(of_source.values())[-n_heldout:]]
    return set().union(*last)


def count_networks(kernels: KernelTensor) -> int:
    """Count networks; a restart counts with its network."""
    return len({name.removesuffix(RESTARTED) for name in kernels.network})


def find_misfits(source: str, kernels: KernelTensor, group: KernelGroup, n_heldout: int) -> list[str]:
    """Say what keeps a further source's kernels from being pooled; nothing if they fit.

    They fit if they come from the group's layers, whatever the widths, are finite, and are of more networks than
    are held out.
    """
    problems = []
    if set(kernels.layer) != set(group.layers):
        theirs = ", ".join(dict.fromkeys(kernels.layer)) or "no layer"
        problems.append(f"they are of {theirs}; the network has {', '.join(group.layers)}")
    if not kernels.kernels.isfinite().all():
        problems.append("some are not finite")
    n_networks = count_networks(kernels)
    if n_networks <= n_heldout:
        problems.append(f"they are of {n_networks} network(s), of which {n_heldout} would be held out")
    return [f"{source}, {group.name} ({group.label}): {problem}" for problem in problems]


def find_repeats(sources: Mapping[str, KernelTensor]) -> list[str]:
    """Say which networks are there under several sources; nothing if none is.

    They are known by the values of their kernels of one group: neither names nor the order of the kernels matter.
    """
    owners: dict[bytes, str] = {}
    repeated: dict[tuple[str, str], list[str]] = {}
    for source, kernels in sources.items():
        for network, digest in _digests(kernels).items():
            owner = owners.setdefault(digest, source)
            if owner != source:
                repeated.setdefault((source, owner), []).append(network)
    return [
        f"{source}: the kernels of {', '.join(networks)} are those of {owner}, and would count twice"
        for (source, owner), networks in repeated.items()
    ]


def _digests(kernels: KernelTensor) -> dict[str, bytes]:
    """Hash each network's kernels, whatever their order."""
    rows = np.ascontiguousarray(kernels.kernels.flatten(1).numpy())
    whole = rows.view(f"V{rows.shape[1] * rows.itemsize}")[:, 0]
    networks = np.array(_numbers(kernels.network))
    return {
        name: hashlib.sha256(np.sort(whole[networks == number]).tobytes()).digest()
        for number, name in enumerate(dict.fromkeys(kernels.network))
    }


def _numbers(names: Sequence[str]) -> list[int]:
    table = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [table[name] for name in names]
