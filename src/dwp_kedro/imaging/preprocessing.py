"""From scans on their own grid to a network's input, and from its output back to the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, Orientation, Resize, ResizeWithPadOrCrop, Spacing, SpatialCrop
from nibabel.affines import voxel_sizes
from scipy import ndimage

from dwp_kedro.imaging.geometry import between_grids, inside_grid, largest_displacement, with_spacing
from dwp_kedro.imaging.volume import Volume, VolumeError
from dwp_kedro.parameters import CohortParameters, PreprocessingParameters

Labels = Literal["above_zero"] | int | list[int] | dict[str, list[int]]
DeclaredSpacing = Literal["header", "unknown"] | tuple[float, float, float]

GRID_TOLERANCE = 0.1
"""Two grids agree if no voxel centre lies further apart, in voxels; headers round, qforms more so."""


def declared_affine(volume: Volume, spacing: DeclaredSpacing) -> np.ndarray:
    """Affine (4, 4) of a volume whose cohort declares ``spacing``: three numbers replace the header's."""
    return volume.affine if isinstance(spacing, str) else with_spacing(volume.affine, spacing)


def map_labels(array: np.ndarray, labels: Labels) -> np.ndarray:
    """Map a label map of any shape to uint8: 0 background, 1 foreground, or 1, 2, … in the order of classes.

    >>> map_labels(np.array([0, 1, 2, 4]), {"core": [1, 4], "oedema": [2]})
    array([0, 1, 2, 1], dtype=uint8)
    """
    if labels == "above_zero":
        return (array > 0).astype(np.uint8)
    classes = list(labels.values()) if isinstance(labels, dict) else [labels]
    mapped = np.zeros(array.shape, dtype=np.uint8)
    for value, members in enumerate(classes, start=1):
        mapped[np.isin(array, np.asarray(members))] = value
    return mapped


def check_same_grid(volumes: Sequence[Volume]) -> None:
    """Check that volumes share one grid.

    Raises:
        VolumeError: a shape differs from the first's, or a voxel lies more than ``GRID_TOLERANCE`` away.
    """
    first = volumes[0]
    for other in volumes[1:]:
        if other.shape != first.shape:
            raise VolumeError(
                f"{other.source}: its grid is {other.shape}, that of {first.source} is {first.shape}; "
                "bring both to one grid"
            )
        displacement = largest_displacement(first.shape, first.affine, other.affine)
        if not displacement <= GRID_TOLERANCE:  # NaN is no agreement
            raise VolumeError(
                f"{other.source}: lies up to {displacement:.3g} voxels away from {first.source}; "
                "bring both to one grid, or repair the wrong affine"
            )


def preprocess_subject(
    images: Sequence[Volume], label: Volume | None, cohort: CohortParameters
) -> tuple[list[Volume], Volume | None]:
    """Bring one subject's channels and label map to the network's grid.

    Clipping to a window, canonical orientation (RAS), resampling to a spacing, foreground crop, fit to the grid,
    if there is one, then each channel to zero mean and unit variance over its foreground, 0 elsewhere. Images are
    interpolated linearly, smoothed first where voxels become larger; labels and foreground take the nearest voxel.

    Returns:
        The channels, float32, and the label map, uint8, all of one grid. Their affines are true to
        the scanner as far as ``cohort.spacing`` is.

    Raises:
        VolumeError: the grids of the files differ, or a channel has no foreground or is constant in it.
    """
    check_same_grid([*images, label] if label else images)
    parameters = cohort.preprocessing
    threshold = parameters.foreground_threshold
    affine = torch.as_tensor(declared_affine(images[0], cohort.spacing))
    intensities = np.stack([image.array for image in images]).astype(np.float32)
    above = np.ones_like(intensities, dtype=bool) if threshold is None else intensities > threshold
    for image, mask in zip(images, above, strict=True):
        if not mask.any():
            raise VolumeError(f"{image.source}: no voxel is above {threshold}; lower foreground_threshold")
    if parameters.window is not None:
        # Before interpolation, which would spread metal over what is around it.
        intensities = intensities.clip(*parameters.window)
    masks = [*above, map_labels(label.array, cohort.labels)] if label else [*above]

    scan = MetaTensor(torch.from_numpy(intensities), affine=affine)
    # Foreground and label go the same way through all steps, as channels of one tensor.
    mask_channels = MetaTensor(torch.from_numpy(np.stack(masks).astype(np.float32)), affine=affine)
    scan, mask_channels = _to_grid(scan, mask_channels, parameters, n_channels=len(images))

    grid_affine = scan.affine.numpy()
    channels = [
        Volume.from_array(_normalise(values, mask > 0, image.source), grid_affine, image.source)
        for values, mask, image in zip(scan.numpy(), mask_channels.numpy(), images, strict=False)
    ]
    if label is None:
        return channels, None
    return channels, Volume.from_array(mask_channels.numpy()[-1].astype(np.uint8), grid_affine, label.source)


def to_own_grid(
    probability: np.ndarray, affine: np.ndarray, own_shape: Sequence[int], own_affine: np.ndarray
) -> np.ndarray:
    """Bring class probabilities from the network's grid to a label map on a scan's own grid.

    Args:
        probability: (classes + 1, X, Y, Z) on the network's grid, background first.
        affine: (4, 4) of the network's grid, as :func:`preprocess_subject` returned it.
        own_shape: of the scan.
        own_affine: (4, 4) of the scan, from :func:`declared_affine`.

    Returns:
        uint8 label map of ``own_shape``: each class interpolated linearly, then the most probable one;
        background outside the network's grid.
    """
    to_network = between_grids(affine, own_affine)
    shape = tuple(int(side) for side in own_shape)
    label = np.zeros(shape, dtype=np.uint8)
    best, total = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for value, class_probability in enumerate(probability[1:], start=1):
        own = ndimage.affine_transform(
            class_probability, to_network, output_shape=shape, output=np.float32, order=1, mode="nearest"
        )
        label[own > best] = value
        np.maximum(best, own, out=best)
        total += own
    # Interpolation is linear and probabilities add up to 1, so what is left is the background's.
    label[1 - total >= best] = 0
    label[~inside_grid(probability.shape[1:], shape, to_network)] = 0
    return label


def _to_grid(
    scan: MetaTensor, masks: MetaTensor, parameters: PreprocessingParameters, n_channels: int
) -> tuple[MetaTensor, MetaTensor]:
    """All geometric steps, on intensities and on masks; the first ``n_channels`` masks are foreground."""
    orient = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    scan, masks = _apply(orient, scan), _apply(orient, masks)
    spacing, grid = parameters.spacing, parameters.grid
    if spacing is not None:
        scan = _smooth(scan, np.asarray(spacing) / voxel_sizes(scan.affine.numpy()))
        scan = _apply(Spacing(spacing, mode="bilinear", padding_mode="border"), scan)
        masks = _apply(Spacing(spacing, mode="nearest", padding_mode="border"), masks)
    if parameters.crop_foreground:
        box = CropForeground(select_fn=lambda mask: mask > 0).compute_bounding_box(masks[:n_channels])
        crop = SpatialCrop(roi_start=box[0], roi_end=box[1])
        scan, masks = _apply(crop, scan), _apply(crop, masks)
    if grid is None:
        return scan, masks
    if parameters.fit == "pad_crop":
        fit = ResizeWithPadOrCrop(grid)
        return _apply(fit, scan), _apply(fit, masks)
    scan = _smooth(scan, np.asarray(scan.shape[1:]) / np.asarray(grid))
    scan = _apply(Resize(grid, mode="trilinear", align_corners=False), scan)
    # torch's plain "nearest" is half a voxel off the affine that MONAI reports.
    return scan, _apply(Resize(grid, mode="nearest-exact"), masks)


def _apply(transform: Callable[[torch.Tensor], Any], image: MetaTensor) -> MetaTensor:
    """Apply a MONAI transform, which returns a MetaTensor for a MetaTensor but declares a Tensor."""
    return transform(image)


def _smooth(scan: MetaTensor, factors: np.ndarray) -> MetaTensor:
    """Take out what a grid with voxels larger by ``factors`` (3,) cannot hold.

    Gaussian of (factor − 1) / 2 voxels, as in ``skimage.transform.resize``. MONAI's own smoothing takes what
    lies outside for 0, which darkens the rim of scans that fill their grid.
    """
    sigma = np.maximum(0.0, (factors - 1) / 2)
    if not sigma.any():
        return scan
    smoothed = ndimage.gaussian_filter(scan.numpy(), sigma=(0.0, *sigma), mode="nearest")
    return MetaTensor(torch.from_numpy(smoothed), affine=scan.affine)


def _normalise(values: np.ndarray, foreground: np.ndarray, source: str) -> np.ndarray:
    """Zero mean, unit variance over ``foreground``, 0 elsewhere; float32."""
    inside = values[foreground].astype(np.float64)
    if inside.size == 0:
        raise VolumeError(f"{source}: no foreground is on the network's grid; enlarge it or check the spacing")
    mean, deviation = inside.mean(), inside.std()
    # Interpolation leaves float32 noise on a constant image.
    if deviation <= 1e-6 * np.abs(inside).max():
        raise VolumeError(f"{source}: the image is constant ({mean:g}) in its foreground; replace the file")
    return np.where(foreground, (values - mean) / deviation, 0.0).astype(np.float32)
