from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from dwp_kedro.imaging.augmentation import Augmentation
from dwp_kedro.parameters import AugmentationParameters

OFF = {"flip": 0.0, "affine": 0.0, "intensity": 0.0, "gamma": 0.0, "noise": 0.0}
STILL = {"rotation": 0.0, "scaling": 0.0, "shift": 0.0}


def only(**values: float | tuple[float, float]) -> Augmentation:
    """Nothing but what is named."""
    return Augmentation(AugmentationParameters(**{**OFF, **values}))


def moving(**values: float) -> Augmentation:
    """Of geometry, nothing but what is named."""
    return only(affine=1, **{**STILL, **values})


def noise_like(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(*shape: int) -> tuple[Tensor, Tensor]:
    images = noise_like(*shape)
    return images, (images[:, 0] > 0.5).long() * 3  # values 0 and 3


def blob(shape: tuple[int, int, int], sigma: tuple[float, float, float], centre: tuple[float, ...]) -> Tensor:
    axes = np.meshgrid(*[np.arange(side) for side in shape], indexing="ij")
    square = sum(((axis - c) / s) ** 2 for axis, c, s in zip(axes, centre, sigma, strict=True))
    return torch.from_numpy(np.exp(-square / 2)).float()


def middle(shape: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple((side - 1) / 2 for side in shape)


def moments(volume: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (3,) and covariance (3, 3), voxels."""
    weight = volume.double().numpy().ravel() / volume.double().sum().item()
    points = np.stack([axis.ravel() for axis in np.indices(volume.shape)])
    centre = points @ weight
    return centre, ((points - centre[:, None]) * weight) @ (points - centre[:, None]).T


def augment_volume(augmentation: Augmentation, image: Tensor, seed: int) -> Tensor:
    images, _ = augmentation((image[None, None], torch.zeros(1, *image.shape, dtype=torch.int64)), seed)
    return images[0, 0]


# --- seeds -------------------------------------------------------------------------------------------------


def test_everything_off_changes_no_bit() -> None:
    images, labels = batch_of(2, 2, 16, 24, 16)
    new_images, new_labels = only()((images, labels), 0)
    assert torch.equal(new_images, images)
    assert torch.equal(new_labels, labels)


def test_same_kind_of_tensors_and_the_given_ones_untouched() -> None:
    images, labels = batch_of(2, 2, 16, 24, 16)
    before = images.clone(), labels.clone()
    new_images, new_labels = only(flip=1, affine=1, intensity=1, gamma=1, noise=1)((images, labels), 3)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert type(new_images) is type(new_labels) is Tensor  # no metadata
    assert (new_images.shape, new_images.dtype) == (images.shape, torch.float32)
    assert (new_labels.shape, new_labels.dtype) == (labels.shape, torch.int64)
    assert set(new_labels.unique().tolist()) == {0, 3}


def test_bits_depend_on_seed_and_place_alone_whatever_the_thread() -> None:
    batch = batch_of(2, 1, 16, 16, 16)
    augmentation = Augmentation(AugmentationParameters())
    seeds = [0, 1, 2**16, 2**32 - 1] * 4
    expected = {seed: Augmentation(AugmentationParameters())(batch, seed) for seed in set(seeds)}
    with ThreadPoolExecutor(4) as pool:
        for seed, result in zip(seeds, pool.map(lambda seed: augmentation(batch, seed), seeds), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(result, expected[seed], strict=True))
    images = [expected[seed][0] for seed in sorted(expected)]
    assert not any(torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])
    twice, _ = augmentation((batch[0][:1].repeat(2, 1, 1, 1, 1), batch[1][:1].repeat(2, 1, 1, 1)), 0)
    assert not torch.equal(twice[0], twice[1])
    assert torch.equal(twice[0], expected[0][0][0])
    assert not torch.equal(twice[1], expected[1][0][0])  # item 1 of seed 0 is not item 0 of seed 1


def test_global_random_numbers_stay_as_they_are() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), np.random.get_state()[2]
    only(flip=1, affine=1, intensity=1, gamma=1, noise=1)(batch_of(1, 1, 16, 16, 16), 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert np.random.get_state()[2] == before[2]


def test_settings_are_json_and_name_everything() -> None:
    parameters = AugmentationParameters(rotation=7)
    settings = json.loads(json.dumps(Augmentation(parameters).settings()))
    assert AugmentationParameters(**settings) == parameters


# --- geometry ----------------------------------------------------------------------------------------------


def test_mirrors_are_exact() -> None:
    images, labels = batch_of(1, 2, 16, 24, 16)
    new_images, new_labels = only(flip=1)((images, labels), 0)
    assert torch.equal(new_images, images.flip(2, 3, 4))
    assert torch.equal(new_labels, labels.flip(1, 2, 3))


def test_mirrors_come_as_often_as_said_and_each_axis_by_itself() -> None:
    corner = torch.zeros(2, 2, 2)
    corner[0, 0, 0] = 1
    chance, n = 0.3, 600
    found = np.array([augment_volume(only(flip=chance), corner, seed).nonzero()[0].tolist() for seed in range(n)])
    assert np.abs(found.mean(0) - chance).max() < 4 * np.sqrt(chance * (1 - chance) / n)
    assert np.abs(np.corrcoef(found.T)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(n)


def test_resampling_comes_as_often_as_said() -> None:
    image = noise_like(4, 4, 4)
    changed = [not torch.equal(augment_volume(only(affine=0.3), image, seed), image) for seed in range(400)]
    assert abs(np.mean(changed) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)


def test_resampling_by_nothing_changes_nothing() -> None:
    images, labels = batch_of(1, 1, 16, 24, 16)
    new_images, new_labels = moving()((images, labels), 0)
    assert torch.allclose(new_images, images, atol=1e-4)
    assert torch.equal(new_labels, labels)


@pytest.mark.parametrize("seed", range(4))
def test_image_and_label_move_alike(seed: int) -> None:
    shape = (32, 24, 16)
    label = (blob(shape, (6, 4, 3), (18, 9, 8)) > 0.5).long()
    label[4:8, 14:20, 3:7] = 1  # no symmetry left
    augmentation = only(flip=0.5, affine=1, rotation=25, scaling=0.2, shift=0.1)
    images, labels = augmentation((label[None, None].float(), label[None]), seed)
    image, label = images[0, 0], labels[0]
    # Where all eight neighbours agree, so does the nearest; elsewhere the nearest counts most on average.
    assert torch.equal(label[image > 1 - 1e-4], torch.ones_like(label[image > 1 - 1e-4]))
    assert not label[image < 1e-4].any()
    rounded = image > 0.5
    dice = 2 * (rounded & (label > 0)).sum() / (rounded.sum() + label.sum())
    assert dice > 0.93


def test_label_comes_from_outside_like_the_image() -> None:
    label = torch.full((1, 16, 16, 16), 3)
    images, labels = moving(shift=0.4)((label[None].float(), label), 0)
    assert torch.equal(labels, label)
    assert torch.allclose(images[0], label.float())


def test_all_channels_move_alike() -> None:
    image = noise_like(16, 24, 16)
    images, _ = only(flip=0.5, affine=1)(
        (torch.stack([image, -image])[None], torch.zeros(1, 16, 24, 16).long()), 1
    )
    assert not torch.equal(images[0, 0], image)
    assert torch.equal(images[0, 0], -images[0, 1])


@pytest.mark.parametrize("background", [-0.7, 0.0, 2.0])
def test_no_rim_comes_from_outside(background: float) -> None:
    shape = (24, 24, 16)
    image = background + 3 * (blob(shape, (3, 3, 2), middle(shape)) > 0.6).float()
    for seed in range(5):
        changed = augment_volume(only(affine=1, rotation=40, scaling=0.3, shift=0.1), image, seed)
        assert changed.min() > background - 1e-5
        assert changed.max() < background + 3 + 1e-5
        away = ndimage.binary_erosion(changed.numpy() < background + 1e-5, iterations=1, border_value=1)
        faces = np.ones(shape, dtype=bool)
        faces[2:-2, 2:-2, 1:-1] = False
        assert away[faces].all()


def test_rotation_is_rigid_on_a_grid_of_unequal_sides() -> None:
    shape, sigma = (64, 48, 32), (5.0, 3.0, 2.5)
    image = blob(shape, sigma, middle(shape))
    expected, turned = np.sort(np.square(sigma)), []
    for seed in range(6):
        centre, covariance = moments(augment_volume(moving(rotation=60), image, seed))
        # Trilinear weights at a fraction f of a voxel add variance f(1 − f), on average 1/6 per axis.
        assert np.abs(np.linalg.eigvalsh(covariance) - 1 / 6 - expected).max() < 0.15
        assert np.allclose(centre, middle(shape), atol=0.05)
        turned.append(np.abs(covariance[[0, 0, 1], [1, 2, 2]]))
    assert (np.max(turned, axis=0) > (3, 3, 0.8)).all()  # about every axis


def test_shift_is_uniform_over_its_share_of_each_side() -> None:
    shape, share, n = (32, 24, 16), 0.1, 150
    image = blob(shape, (2, 2, 1.5), middle(shape))
    shifts = np.array([moments(augment_volume(moving(shift=share), image, seed))[0] for seed in range(n)])
    relative = (shifts - middle(shape)) / (share * np.array(shape))
    assert np.abs(relative).max() < 1.02
    for axis in range(3):
        assert stats.kstest(relative[:, axis], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_scaling_keeps_to_its_range_and_reaches_it() -> None:
    shape, sigma = (32, 32, 32), 3.0
    image = blob(shape, (sigma,) * 3, middle(shape))
    sizes = []
    for seed in range(40):
        _, covariance = moments(augment_volume(moving(scaling=0.2), image, seed))
        sizes.append(np.sqrt((np.diag(covariance) - 1 / 6).clip(0)) / sigma)
    step = 1 / np.array(sizes)  # of the grid that is laid over the volume
    assert 0.79 < step.min() < 0.83
    assert 1.17 < step.max() < 1.21
    assert np.abs(np.corrcoef(step.T)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(40)


# --- intensities -------------------------------------------------------------------------------------------


def head() -> tuple[Tensor, Tensor]:
    """Volume as preprocessing leaves it, 0 outside the foreground, and its foreground."""
    foreground = torch.zeros(16, 16, 16, dtype=torch.bool)
    foreground[3:13, 2:14, 4:12] = True
    image = noise_like(16, 16, 16).exp()
    values = image[foreground]
    return torch.where(foreground, (image - values.mean()) / values.std(), 0), foreground


def test_scale_and_shift_act_on_the_foreground_as_said() -> None:
    image, foreground = head()
    n, lines = 200, []
    for seed in range(n):
        changed = augment_volume(only(intensity=1, intensity_shift=0.4, intensity_scale=0.3), image, seed)
        assert not changed[~foreground].any()
        x, y = image[foreground].double(), changed[foreground].double()
        slope, intercept = np.polyfit(x.numpy(), y.numpy(), 1)
        assert torch.allclose(slope * x + intercept, y, atol=1e-5)
        lines.append((slope, intercept))
    slopes, intercepts = np.array(lines).T
    assert stats.kstest(slopes, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3
    assert stats.kstest(intercepts, stats.uniform(-0.4, 0.8).cdf).pvalue > 1e-3


def test_gamma_keeps_order_mean_and_deviation_of_the_foreground() -> None:
    image, foreground = head()
    order = image[foreground].argsort()
    x = image[foreground].double()
    x = (x - x.min()) / (x.max() - x.min())
    found = []
    for seed in range(100):
        changed = augment_volume(only(gamma=1, gamma_range=(0.5, 2.0)), image, seed)
        values = changed[foreground]
        assert not changed[~foreground].any()
        assert values.mean().abs() < 1e-5
        assert abs(values.std() - 1) < 1e-4
        assert (values[order].diff() >= 0).all()
        y = values.double()
        y = (y - y.min()) / (y.max() - y.min())
        inner = (x > 0.05) & (x < 0.95)
        exponents = y[inner].log() / x[inner].log()  # the curve is a power of the relative intensity
        assert exponents.std() < 1e-3
        found.append(exponents.mean().item())
    assert stats.kstest(found, stats.uniform(0.5, 1.5).cdf).pvalue > 1e-3


def test_each_channel_has_contrast_and_noise_of_its_own() -> None:
    image, _ = head()
    label = torch.zeros(1, 16, 16, 16).long()
    for chance in ({"intensity": 1}, {"gamma": 1}, {"noise": 1}):
        images, _ = only(**chance)((torch.stack([image, image])[None], label), 0)
        assert not torch.equal(images[0, 0], images[0, 1])


def test_noise_is_white_after_resampling_and_leaves_the_background() -> None:
    image, _ = head()
    turned = {"affine": 1, "rotation": 20}
    deviations = []
    for seed in range(100):
        plain = augment_volume(only(**turned), image, seed)
        noisy = augment_volume(only(**turned, noise=1, noise_sigma=0.2), image, seed)
        foreground = plain != 0
        assert not noisy[~foreground].any()
        noise = torch.where(foreground, noisy - plain, 0)
        deviation = noise[foreground].std()
        neighbours = foreground[1:] & foreground[:-1]
        pairs = (noise[1:] * noise[:-1])[neighbours] / deviation**2
        assert abs(pairs.mean()) < 5 / neighbours.sum().sqrt()  # interpolated noise has about 0.3
        deviations.append(deviation.item())
    assert stats.kstest(deviations, stats.uniform(0, 0.2).cdf).pvalue > 1e-3


def test_contrast_changes_before_interpolation_blends_the_rim() -> None:
    # A foreground of one value: after a shift, the rim lies between the new value and the background.
    foreground = torch.zeros(16, 16, 16)
    foreground[4:12, 4:12, 4:12] = -1
    settings = {"intensity": 1, "intensity_scale": 0, "intensity_shift": 0.5, "affine": 1, "rotation": 20}
    for seed in range(10):
        changed = augment_volume(only(**settings), foreground, seed)
        value = changed[8, 8, 8]
        before = augment_volume(only(**{**settings, "intensity_shift": 0}), foreground, seed)
        assert torch.allclose(changed, -before * value, atol=1e-4)
