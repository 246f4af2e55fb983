"""How much of a volume a network sees at once in prediction: a user says it, or its training and memory decide."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod

import psutil
import torch
from torch import nn

from dwp_kedro.imaging.windows import SlidingWindow, WholeVolume
from dwp_kedro.parameters import PredictionWindow

_logger = logging.getLogger(__name__)
_SHARE = 0.8  # of the memory that is free, which prediction may take
_SMALLEST_SIDE = 24  # voxels; smaller windows are mostly rim


def make_inferer(
    window: PredictionWindow, trained_on: Sequence[int], networks: Sequence[nn.Module]
) -> WholeVolume | SlidingWindow:
    """Return what shows volumes to ``networks``, which were trained on volumes or patches of size ``trained_on``.

    With ``auto`` they see as much as in training, also of larger volumes: instance norm divides by what it sees,
    and networks trained on patches segment whole volumes worse (``docs/big_volumes.md``). Where
    :func:`prediction_bytes` of that does not fit into memory, the window is halved along its longest side until
    it does.
    """
    if window == "whole":
        return WholeVolume()
    if window == "auto":
        return SlidingWindow(lambda device: _fitting(tuple(trained_on), device, networks))
    return SlidingWindow(lambda device: window)


def prediction_bytes(shape: Sequence[int], networks: Sequence[nn.Module]) -> int:
    """Estimate the memory that prediction of a volume or window (x, y, z) takes at its peak.

    Per voxel 28 bytes for each channel at full resolution, and 60 for probabilities and sums: about what was
    measured for 64³ voxels in float32, and a third more than for 128³ (``docs/big_volumes.md``); bfloat16 takes
    less. One network computes at a time.
    """
    width = max(next((w.shape[0] for w in network.parameters() if w.ndim == 5), 1) for network in networks)
    return (28 * width + 60) * prod(shape)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a GPU, or in the main memory for other devices."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    # What torch keeps for itself and has not handed out is free too.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def _fitting(size: tuple[int, ...], device: torch.device, networks: Sequence[nn.Module]) -> tuple[int, ...]:
    """Return ``size``, halved along its longest sides until prediction fits into memory."""
    free, window = _SHARE * free_bytes(device), list(size)
    while prediction_bytes(window, networks) > free and max(window) > _SMALLEST_SIDE:
        longest = window.index(max(window))
        window[longest] = max(_SMALLEST_SIDE, -(-window[longest] // 16) * 8)
    if tuple(window) != size:
        _logger.warning(
            "prediction.window: %s voxels, as in training, do not fit into the %.1f GiB that are free; windows of "
            "%s are used, which may segment worse.",
            "×".join(map(str, size)),
            free / 2**30,
            "×".join(map(str, window)),
        )
    return tuple(window)
