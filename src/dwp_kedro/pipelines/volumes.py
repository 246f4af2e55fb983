"""Preprocessed volumes between the catalog and the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dwp_kedro.imaging.volume import Volume
from dwp_kedro.progress import track

Volumes = Mapping[str, Callable[[], Volume]]


def image_id(subject: str, channel: int) -> str:
    """Partition of one channel of a subject's image.

    In the order of their names, in which partitions are saved, a subject's label follows its images.
    """
    return f"{subject}/image_{channel:04d}"


def label_id(subject: str) -> str:
    """Partition of a subject's label map."""
    return f"{subject}/label"


def channel_count(subjects: pd.DataFrame) -> int:
    """Return how many channels the preprocessed subjects have.

    Raises:
        ValueError: if they differ; the message names two subjects.
    """
    one_each = subjects.drop_duplicates("channels")
    if len(one_each) != 1:
        counts = ", ".join(f"{row.subject} has {row.channels}" for row in one_each.itertuples())
        raise ValueError(f"subjects have different numbers of channels: {counts}. Name the same images for all.")
    return int(one_each["channels"].iloc[0])


def load_image(volumes: Volumes, subject: str, n_channels: int) -> Tensor:
    """Image of one subject, (channels, x, y, z) float32."""
    channels = [volumes[image_id(subject, channel)]().array for channel in range(n_channels)]
    return torch.from_numpy(np.stack(channels).astype(np.float32, copy=False))


def load_label(volumes: Volumes, subject: str) -> Tensor:
    """Label map of one subject, (x, y, z) uint8."""
    return torch.from_numpy(np.ascontiguousarray(volumes[label_id(subject)]().array, dtype=np.uint8))


def stack_volumes(volumes: Volumes, subjects: Sequence[str], n_channels: int) -> tuple[Tensor, Tensor]:
    """Read all ``subjects`` into memory: images (n, channels, x, y, z) float32, labels (n, x, y, z) uint8."""
    images, labels = [], []
    for subject in track(subjects, "reading volumes"):
        images.append(load_image(volumes, subject, n_channels))
        labels.append(load_label(volumes, subject))
    return torch.stack(images), torch.stack(labels)
