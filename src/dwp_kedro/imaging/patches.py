"""Random patches of training volumes, so that volumes may be of any size and larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Crop, SpatialPad
from monai.transforms.utils import correct_crop_centers
from monai.utils import convert_to_tensor
from torch import Tensor

from dwp_kedro.imaging.augmentation import random_state
from dwp_kedro.parameters import PatchParameters

_MOST_CENTRES = 100_000  # kept of a volume's foreground, evenly picked: under 1 MB per volume
_MOST_TRIES = 1000  # to meet background; a volume of 99 % foreground would need more once in 20,000 patches


class Patches:
    """Take a patch of each volume of a batch, centred on foreground or on background.

    Which of the two is a draw for each patch, and so is the voxel; where the patch would reach over the volume's
    border, it moves inwards, and still holds that voxel. Only the patch is read of a memory-mapped volume.
    The result depends on the batch, the seed and the item's place in the batch alone.
    """

    def __init__(self, parameters: PatchParameters) -> None:
        self.parameters = parameters
        self._pad = SpatialPad(parameters.size)

    def settings(self) -> dict[str, Any]:
        """Return what the result depends on, as plain JSON values."""
        return self.parameters.model_dump(mode="json")

    def __call__(self, batch: tuple[Tensor | Sequence[Tensor], ...], seed: int) -> tuple[Tensor, ...]:
        """Return images (b, c, *size), float32, and labels (b, *size), of the labels' type.

        Args:
            batch: the volumes' channels one after the other, their label maps, and what :func:`foreground_voxels`
                says of these. Each has a row per volume; rows of channels and labels are (x, y, z), of any size.
            seed: at least 0; another one at each step.
        """
        *channels, labels, foregrounds = batch
        images, masks = [], []
        for item, (label, foreground) in enumerate(zip(labels, foregrounds, strict=True)):
            box = self._draw_box(label, foreground, random_state(seed, item))
            images.append(self._padded(torch.stack([channel[item][box] for channel in channels])))
            masks.append(self._padded(label[box][None])[0])
        return torch.stack(images), torch.stack(masks)

    def _draw_box(self, label: Tensor, foreground: Tensor, random: np.random.RandomState) -> tuple[slice, ...]:
        p, shape = self.parameters, tuple(label.shape)
        if random.random_sample() < p.positive / (p.positive + p.negative) and len(foreground):
            chosen = int(foreground[random.randint(len(foreground))])
            voxel = [int(index) for index in np.unravel_index(chosen, shape)]
        else:
            voxel = _draw_background(label, random)
        centre = correct_crop_centers(voxel, p.size, shape, allow_smaller=True)
        size = [min(side, most) for side, most in zip(shape, p.size, strict=True)]
        return Crop.compute_slices(roi_center=centre, roi_size=size)

    def _padded(self, patch: Tensor) -> Tensor:
        return convert_to_tensor(self._pad(patch), track_meta=False)


def foreground_voxels(label: np.ndarray) -> Tensor:
    """Return indices of foreground into a flattened label map (x, y, z); evenly picked ones if there are many."""
    indices = np.flatnonzero(label)
    if len(indices) > _MOST_CENTRES:
        indices = indices[np.linspace(0, len(indices) - 1, _MOST_CENTRES).round().astype(int)]
    return torch.from_numpy(indices)


def _draw_background(label: Tensor, random: np.random.RandomState) -> list[int]:
    """Draw a background voxel; any voxel of a volume that has next to none."""
    for _ in range(_MOST_TRIES):
        voxel = [int(random.randint(side)) for side in label.shape]
        if not label[tuple(voxel)]:
            break
    return voxel
