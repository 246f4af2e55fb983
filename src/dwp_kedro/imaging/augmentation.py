"""Random changes of training volumes, on the network's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    RandAdjustContrast,
    RandAffineGrid,
    RandGaussianNoise,
    RandomizableTransform,
    RandScaleIntensity,
    RandShiftIntensity,
    Resample,
)
from monai.utils import convert_to_tensor
from torch import Tensor

from dwp_kedro.parameters import AugmentationParameters


class Augmentation:
    """Change each volume of a batch at random, its channels and its label map alike.

    In this order:

    - *contrast*, each channel by itself: intensity scale, shift and gamma curve. They act on the foreground alone;
      what preprocessing set to 0 stays 0. The gamma curve keeps the foreground's mean and deviation, which scale
      and shift change, so what comes out is what preprocessing makes of a scan of other contrast. It comes
      before interpolation blends the foreground's rim with the background.
    - *geometry*: mirrors, which are exact; then rotation, scaling and shift in one resampling, trilinear for
      images and nearest voxel for labels. Both count in voxels: the network's grid is taken for isotropic, and a
      rotation is rigid on it whatever its sides. What comes from outside repeats the voxel at the border.
    - *noise* on the foreground; it comes last, because interpolation would smooth it.

    The result depends on the batch, the seed and the item's place in the batch alone, and global random numbers
    stay as they are; so one object may serve several threads.
    """

    def __init__(self, parameters: AugmentationParameters) -> None:
        self.parameters = parameters

    def settings(self) -> dict[str, Any]:
        """Return what the result depends on, as plain JSON values."""
        return self.parameters.model_dump(mode="json")

    def __call__(self, batch: tuple[Tensor | Sequence[Tensor], ...], seed: int) -> tuple[Tensor, ...]:
        """Return changed copies of images (b, c, x, y, z), float32, and labels (b, x, y, z), int64.

        Args:
            batch: images and labels, on the CPU.
            seed: at least 0; another one at each step.
        """
        images, labels = batch
        augmented = [
            self._augment(image, label, random_state(seed, item))
            for item, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        new_images, new_labels = zip(*augmented, strict=True)
        return torch.stack(new_images), torch.stack(new_labels)

    def _augment(self, image: Tensor, label: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        image = torch.stack([self._change_contrast(channel, random) for channel in image])
        image, label = self._move(image, label, random)
        return torch.stack([self._add_noise(channel, random) for channel in image]), label

    def _change_contrast(self, channel: Tensor, random: np.random.RandomState) -> Tensor:
        """(x, y, z) → the same, scaled, shifted and bent by a gamma curve in its foreground."""
        p = self.parameters
        foreground = channel != 0
        values = channel.masked_select(foreground)
        transforms: tuple[RandomizableTransform, ...] = (
            RandScaleIntensity(p.intensity_scale, prob=p.intensity),
            RandShiftIntensity(p.intensity_shift, prob=p.intensity),
            RandAdjustContrast(prob=p.gamma, gamma=p.gamma_range, retain_stats=True),
        )
        for transform in transforms:
            values = _apply(transform, values, random)
        return torch.zeros_like(channel).masked_scatter_(foreground, values)

    def _move(self, image: Tensor, label: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
        """Image (c, x, y, z) and label (x, y, z) → the same, mirrored and resampled alike."""
        p = self.parameters
        mirrored = [axis for axis in (-3, -2, -1) if random.random_sample() < p.flip]
        image, label = image.flip(mirrored), label.flip(mirrored)
        if random.random_sample() >= p.affine:
            return image, label
        make_grid = RandAffineGrid(
            rotate_range=[math.radians(p.rotation)] * 3,
            translate_range=[p.shift * side for side in label.shape],
            scale_range=[p.scaling] * 3,
        )
        make_grid.set_random_state(state=random)
        grid = make_grid(label.shape)
        resample = Resample(padding_mode="border")
        image = _plain(resample(image, grid, mode="bilinear"))
        moved = _plain(resample(label[None].float(), grid, mode="nearest"))
        return image, moved[0].to(label.dtype)

    def _add_noise(self, channel: Tensor, random: np.random.RandomState) -> Tensor:
        """(x, y, z) → the same with noise in its foreground."""
        noisy = _apply(RandGaussianNoise(self.parameters.noise, std=self.parameters.noise_sigma), channel, random)
        return torch.where(channel == 0, channel, noisy)


def random_state(seed: int, item: int) -> np.random.RandomState:
    """Return the kind of generator that MONAI wants, seeded by all bits of both numbers."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, item])))


def _apply(transform: RandomizableTransform, values: Tensor, random: np.random.RandomState) -> Tensor:
    transform.set_random_state(state=random)
    return _plain(transform(values))


def _plain(tensor: Any) -> Tensor:
    """Take off the metadata that MONAI puts on, unless they are switched off for the whole process."""
    return convert_to_tensor(tensor, track_meta=False)
