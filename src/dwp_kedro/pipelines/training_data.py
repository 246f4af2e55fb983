"""What the trainings of source and target networks see."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dwp_kedro.imaging.augmentation import Augmentation
from dwp_kedro.imaging.patches import Patches, foreground_voxels
from dwp_kedro.parameters import SegmentationTraining
from dwp_kedro.pipelines.volumes import Volumes, image_id, label_id, stack_volumes
from dwp_kedro.progress import track
from dwp_kedro.training.transform import Column, InTurn, Transform


def training_data(
    volumes: Volumes, subjects: Sequence[str], n_channels: int, training: SegmentationTraining
) -> tuple[Column, ...]:
    """Return a row per subject, to be changed by :func:`training_transform`.

    Of whole volumes: images (n, channels, x, y, z) and labels (n, x, y, z), in memory. For patches, what
    :class:`Patches` takes: uncompressed files (.nii) are memory-mapped and may be larger than memory together,
    others (.nii.gz) are read into it.
    """
    if training.patches is None:
        return stack_volumes(volumes, subjects, n_channels)
    channels: list[list[torch.Tensor]] = [[] for _ in range(n_channels)]
    labels, foregrounds = [], []
    for subject in track(subjects, "opening volumes"):
        for channel, column in enumerate(channels):
            column.append(torch.from_numpy(volumes[image_id(subject, channel)]().array))
        label = volumes[label_id(subject)]().array
        labels.append(torch.from_numpy(label))
        foregrounds.append(foreground_voxels(label))
    return (*channels, labels, foregrounds)


def training_transform(training: SegmentationTraining) -> Transform | None:
    """Return what is done to each batch: patches are taken, then augmented, as far as ``training`` says so."""
    patches = None if training.patches is None else Patches(training.patches)
    augmentation = None if training.augmentation is None else Augmentation(training.augmentation)
    if patches is None or augmentation is None:
        return patches or augmentation
    return InTurn([patches, augmentation])
