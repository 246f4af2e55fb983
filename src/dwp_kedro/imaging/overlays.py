"""Pictures of volumes: slices, contours, contact sheets. Pure functions that return a figure.

Figures are made without pyplot, whose global state is not safe in threads. All pictures are in canonical
orientation and radiological view: the patient's right is on the left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dwp_kedro.imaging.volume import Volume

TRUTH_COLOUR = "#F0E442"
"""Yellow of Okabe and Ito (2008), told apart from their other colours with every kind of colour vision."""

CLASS_COLOURS = (TRUTH_COLOUR, "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
"""Of the classes of a mask, in their order; Okabe and Ito's colours too. An eighth class takes the first again."""

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Planes of a canonical array, each with the axis across it."""

_EDGES = {"sagittal": ("P", "A"), "coronal": ("R", "L"), "axial": ("R", "L")}
"""What lies at the left and right edge of a picture of each plane."""


def middle_slices(volume: Volume) -> Figure:
    """Show the middle slice of each plane, in true proportions. Of a 4D volume, the first channel."""
    array, spacing = to_canonical(volume)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (plane, axis) in zip(figure.subplots(1, 3), PLANES.items(), strict=True):
        show_plane(axes, array, plane, array.shape[axis] // 2, spacing)
    size = " × ".join(str(side) for side in volume.shape)
    voxel = " × ".join(f"{side:.3g}" for side in volume.spacing)
    figure.suptitle(f"{size} voxels of {voxel} mm, {volume.orientation}, {volume.array.dtype}", fontsize=9)
    return figure


def contact_sheet(
    subjects: Iterable[tuple[str, Volume, Volume]], count: int, *, title: str = "", columns: int = 8
) -> Figure:
    """Show every subject's axial slice with the most label voxels, label outlined.

    Args:
        subjects: ``count`` triples of name, image and label map; one at a time is kept in memory.
        count: how many there are.
        title: above all of them.
        columns: pictures in a row.
    """
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(1.6 * columns, 1.75 * rows + 0.3), layout="constrained")
    figure.suptitle(title, fontsize=9, wrap=True)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    for (subject, image, label), axes in zip(subjects, panels, strict=False):
        array, spacing = to_canonical(image)
        mask, _ = to_canonical(label)
        index = largest_slice(mask)
        show_slice(axes, array, 2, index, spacing)
        outline(axes, take_slice(mask, 2, index), TRUTH_COLOUR)
        axes.set_title(subject, fontsize=6)
    return figure


def to_canonical(volume: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array (X, Y, Z) with axes to right, anterior, superior, and its spacing, mm. Of 4D, the first channel."""
    array = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
    orientation = nib.orientations.io_orientation(volume.affine)
    spacing = [0.0, 0.0, 0.0]
    for axis, target in enumerate(orientation[:, 0].astype(int)):
        spacing[target] = volume.spacing[axis]
    return nib.orientations.apply_orientation(array, orientation), tuple(spacing)


def take_slice(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Slice of a canonical array as (rows, columns), row 0 at the bottom; coronal and axial right to left."""
    plane = np.take(array, index, axis=axis).T
    return plane if axis == 0 else plane[:, ::-1]


def largest_slice(label: np.ndarray) -> int:
    """Axial slice with the most foreground; the middle one of an empty label map."""
    areas = np.count_nonzero(label > 0, axis=(0, 1))
    return int(areas.argmax()) if areas.any() else label.shape[2] // 2


def show_slice(axes: Axes, array: np.ndarray, axis: int, index: int, spacing: Sequence[float]) -> None:
    """Show a slice of a canonical array in true proportions; ``spacing`` in mm."""
    across, up = (size for other, size in enumerate(spacing) if other != axis)
    low, high = _window(array)
    pixels = take_slice(array, axis, index)
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=up / across)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def show_plane(axes: Axes, array: np.ndarray, plane: str, index: int, spacing: Sequence[float]) -> None:
    """Show slice ``index`` of a plane of a canonical array, with its name and what lies at its edges."""
    show_slice(axes, array, PLANES[plane], index, spacing)
    left, right = _EDGES[plane]
    axes.text(0.01, 0.5, left, color="white", transform=axes.transAxes, va="center")
    axes.text(0.99, 0.5, right, color="white", transform=axes.transAxes, va="center", ha="right")
    axes.set_title(plane, fontsize=9)


def outline(axes: Axes, label: np.ndarray, colour: str, style: str = "solid") -> None:
    """Outline every class of a slice (rows, columns); a margin closes outlines that reach the edge."""
    y, x = (np.arange(-1, side + 1) for side in label.shape)
    limits = axes.axis()
    for value in np.unique(label[label > 0]):
        inside = np.pad(label == value, 1).astype(float)
        axes.contour(x, y, inside, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.4)
    axes.axis(limits)


def _window(array: np.ndarray) -> tuple[float, float]:
    """Intensities shown as black and white: robust against a few bright voxels."""
    low, high = np.percentile(array, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(array.min()), float(array.max()))
