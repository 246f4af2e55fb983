"""Networks on volumes of any size: whole, or window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn
from torch.nn import functional as F

_OVERLAP = 0.5  # of neighbouring windows, as in nnU-Net (Isensee et al. 2021)
_STEP, _LEAST = 8, 16  # networks take sides that are multiples of 8, at least 16


class WholeVolume:
    """Show a network the whole volume, padded with zeros to sides that networks take, which grids have already."""

    def __call__(self, network: nn.Module, volume: Tensor, device: torch.device) -> Tensor:
        """(1, channels, x, y, z) in the main memory → logits (1, classes, x, y, z) on ``device``."""
        return _see_padded(
            network, volume, [max(_LEAST, -(-s // _STEP) * _STEP) for s in volume.shape[2:]], device
        )


class SlidingWindow:
    """Show a network windows that overlap by half, and average its logits with Gaussian weights.

    Where one window covers the volume, padded with zeros as patches are in training, there is nothing to average
    and the logits are the network's own. Of a volume in several windows only the window is on the device; the
    logits are put together in the main memory.
    """

    def __init__(self, size: Callable[[torch.device], Sequence[int]]) -> None:
        """Take the windows' size (x, y, z), voxels, on a device; it is asked for anew for each volume."""
        self._size = size

    def __call__(self, network: nn.Module, volume: Tensor, device: torch.device) -> Tensor:
        """(1, channels, x, y, z) in the main memory → logits (1, classes, x, y, z)."""
        size = tuple(self._size(device))
        if all(side <= most for side, most in zip(volume.shape[2:], size, strict=True)):
            return _see_padded(network, volume, size, device)
        slide = SlidingWindowInferer(size, overlap=_OVERLAP, mode="gaussian", device=torch.device("cpu"))
        # float, because sums in bfloat16 would lose what they average.
        logits = slide(volume, lambda window: network(window.to(device)).float())
        assert isinstance(logits, Tensor)
        return logits


def _see_padded(network: nn.Module, volume: Tensor, size: Sequence[int], device: torch.device) -> Tensor:
    """Logits of a volume that is padded to ``size``, for its own voxels."""
    shape = volume.shape[2:]
    before = [(new - old) // 2 for new, old in zip(size, shape, strict=True)]
    after = [new - old - first for new, old, first in zip(size, shape, before, strict=True)]
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    padded = F.pad(volume, widths) if any(widths) else volume
    box = tuple(slice(first, first + side) for first, side in zip(before, shape, strict=True))
    return network(padded.to(device))[(..., *box)]
