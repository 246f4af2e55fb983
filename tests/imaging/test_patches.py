from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dwp_kedro.imaging.patches import Patches, foreground_voxels
from dwp_kedro.parameters import PatchParameters

SIZE = (16, 24, 16)


def numbered(shape: tuple[int, ...], offset: int = 1) -> Tensor:
    """A volume in which every voxel's value says where it is; 0 is nowhere."""
    return (torch.arange(np.prod(shape)) + offset).view(shape).float()


def patches(positive: float = 1, negative: float = 1, size: tuple[int, int, int] = SIZE) -> Patches:
    return Patches(PatchParameters(size=size, positive=positive, negative=negative))


def batch_of(*labels: Tensor) -> tuple[list[Tensor], ...]:
    """Two channels, of which the second is the first's negative, and what goes with the labels."""
    images = [numbered(tuple(label.shape)) for label in labels]
    return (
        images,
        [-image for image in images],
        list(labels),
        [foreground_voxels(label.numpy()) for label in labels],
    )


def one_voxel(shape: tuple[int, ...], voxel: tuple[int, ...]) -> Tensor:
    label = torch.zeros(shape, dtype=torch.uint8)
    label[voxel] = 1
    return label


@settings(max_examples=60, deadline=None)
@given(data=st.data(), shape=st.tuples(*[st.integers(8, 40)] * 3), seed=st.integers(0, 2**32 - 1))
def test_a_patch_is_a_box_of_its_volume_with_the_chosen_voxel(data, shape, seed):
    voxel = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
    label = one_voxel(shape, voxel)
    images, labels = patches(negative=0)(batch_of(label), seed)
    assert images.shape == (1, 2, *SIZE)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.uint8)
    assert torch.equal(images[0, 1], -images[0, 0])
    # Each axis has as much of the volume as fits in, in one piece, and zeros around it.
    inside = images[0, 0].nonzero()
    low, high = inside.min(0).values, inside.max(0).values + 1
    expected = torch.tensor([min(side, most) for side, most in zip(shape, SIZE, strict=True)])
    assert torch.equal(high - low, expected)
    pad = torch.tensor(SIZE) - expected
    assert torch.equal(low, pad // 2)
    box = images[0, 0][tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    start = np.unravel_index(int(box[0, 0, 0]) - 1, shape)
    where = tuple(slice(a, a + n) for a, n in zip(start, expected.tolist(), strict=True))
    assert torch.equal(box, numbered(shape)[where])
    # The label goes the same way, and the voxel asked for is there, in the middle unless the border is near.
    assert labels.sum() == 1
    assert images[0, 0][labels[0] == 1].item() == numbered(shape)[voxel]
    for axis, place in enumerate(labels[0].nonzero()[0].tolist()):
        half = SIZE[axis] // 2
        if shape[axis] >= SIZE[axis] and half <= voxel[axis] <= shape[axis] - half:
            assert place == half


@pytest.mark.parametrize(("positive", "negative", "share"), [(1, 1, 0.5), (3, 1, 0.75), (0, 1, 0.0), (1, 0, 1.0)])
def test_patches_are_centred_on_foreground_as_often_as_asked_for(positive, negative, share):
    label = torch.zeros(64, 64, 64, dtype=torch.uint8)
    label[20:40, 20:44, 24:40] = 2
    make, batch = patches(positive, negative), batch_of(label)
    n = 400
    centres = [make(batch, seed)[1][0][tuple(side // 2 for side in SIZE)].item() > 0 for seed in range(n)]
    # Background centres near the border move inwards, and do not reach the foreground from there.
    assert sum(centres) / n == pytest.approx(share, abs=0.0 if share in (0, 1) else 4 * (0.25 / n) ** 0.5)


def test_all_of_foreground_and_background_is_reached():
    label = torch.zeros(24, 24, 24, dtype=torch.uint8)
    label[4, 4, 4] = label[18, 12, 20] = 1
    make, batch = patches(size=(16, 16, 16)), batch_of(label)
    starts = {
        tuple(np.unravel_index(int(make(batch, seed)[0][0, 0, 0, 0, 0]) - 1, (24, 24, 24))) for seed in range(600)
    }
    for axis in range(3):
        assert {start[axis] for start in starts} == set(range(9))


def test_items_and_seeds_differ_and_the_same_seed_gives_the_same_bits():
    label = torch.zeros(40, 40, 40, dtype=torch.uint8)
    label[10:30, 10:30, 10:30] = 1
    make, batch = patches(), batch_of(label, label)
    torch.manual_seed(0)
    first = make(batch, 3)
    torch.manual_seed(1)
    second = make(batch, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0][0], first[0][1]), "items"
    assert not torch.equal(first[0][0], make(batch, 4)[0][0]), "seeds"


@pytest.mark.parametrize("value", [0, 1])
def test_volumes_of_one_kind_of_voxel_have_patches_too(value):
    label = torch.full((20, 30, 20), value, dtype=torch.uint8)
    for seed in range(4):
        images, labels = patches()(batch_of(label), seed)
        assert images.shape == (1, 2, *SIZE)
        assert (labels == value).all()


def test_many_foreground_voxels_are_thinned_evenly():
    label = np.zeros((200, 100, 20), dtype=np.uint8)
    label[:, :, 4:] = 1
    indices = foreground_voxels(label).numpy()
    assert len(indices) == 100_000 == len(np.unique(indices))
    assert label.ravel()[indices].all()
    quarters = np.histogram(indices, bins=4, range=(0, label.size))[0]
    assert np.ptp(quarters) <= 10
    few = foreground_voxels(np.asfortranarray(label[:4, :4]))
    assert np.array_equal(few, np.flatnonzero(label[:4, :4]))
