"""Pictures of volumes: slices, contours, contact sheets. Pure functions that return a figure.

Figures are made without pyplot, whose global state is not safe in threads. All pictures are in canonical
orientation and radiological view: the patient's right is on the left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dwp_kedro.imaging.volume import Volume

# Okabe and Ito (2008), told apart with every kind of colour vision; truth is first.
COLOURS = ("#F0E442", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
LINE_STYLES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")

_PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))
_EDGES = {"sagittal": ("P", "A"), "coronal": ("R", "L"), "axial": ("R", "L")}
"""What lies at the left and right edge of a picture of each plane."""


def middle_slices(volume: Volume) -> Figure:
    """Show the middle slice of each plane, in true proportions. Of a 4D volume, the first channel."""
    array, spacing = _canonical(volume)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    window = _window(array)
    for axes, (plane, axis) in zip(figure.subplots(1, 3), _PLANES, strict=True):
        _show(axes, _slice(array, axis, array.shape[axis] // 2), _in_plane(spacing, axis), window)
        left, right = _EDGES[plane]
        axes.text(0.01, 0.5, left, color="white", transform=axes.transAxes, va="center")
        axes.text(0.99, 0.5, right, color="white", transform=axes.transAxes, va="center", ha="right")
        axes.set_title(plane, fontsize=9)
    size = " × ".join(str(side) for side in volume.shape)
    voxel = " × ".join(f"{side:.3g}" for side in volume.spacing)
    figure.suptitle(f"{size} voxels of {voxel} mm, {volume.orientation}, {volume.array.dtype}", fontsize=9)
    return figure


def contour_slices(
    image: np.ndarray,
    contours: Mapping[str, np.ndarray],
    *,
    truth: str = "truth",
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    title: str = "",
) -> Figure:
    """Show the axial slice where truth is largest, bare and with the contour of every mask.

    Args:
        image: (X, Y, Z) in canonical orientation.
        contours: masks (X, Y, Z) by name, above 0 where foreground; the legend says which are empty on the
            slice.
        truth: name of the mask that chooses the slice.
        spacing: voxel size, mm.
        title: above the picture.
    """
    index = _largest_slice(contours[truth])
    names = [truth, *(name for name in contours if name != truth)]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes in panels:
        _show(axes, _slice(image, 2, index), _in_plane(spacing, 2), _window(image))
    handles = []
    for position, name in enumerate(names):
        colour = COLOURS[position % len(COLOURS)]
        style = LINE_STYLES[position // len(COLOURS) % len(LINE_STYLES)]
        is_drawn = _contour(panels[1], _slice(contours[name], 2, index), colour, style)
        text = name if is_drawn else f"{name} (nothing on this slice)"
        handles.append(Line2D([], [], color=colour, linestyle=style, label=text))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(4, len(handles)),
        fontsize=9,
        facecolor="0.35",  # light and dark colours both stand out on grey
        labelcolor="white",
    )
    figure.suptitle(f"{title} slice {index}".strip(), fontsize=10)
    return figure


def contact_sheet(subjects: Mapping[str, tuple[Volume, Volume]], *, columns: int = 8) -> Figure:
    """Show every subject's axial slice with the most label voxels, label outlined.

    Args:
        subjects: (image, label map) by subject.
        columns: pictures in a row.
    """
    rows = math.ceil(len(subjects) / columns)
    figure = Figure(figsize=(1.6 * columns, 1.75 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, (subject, (image, label)) in zip(panels, subjects.items(), strict=False):
        array, spacing = _canonical(image)
        mask, _ = _canonical(label)
        index = _largest_slice(mask)
        _show(axes, _slice(array, 2, index), _in_plane(spacing, 2), _window(array))
        _contour(axes, _slice(mask, 2, index), COLOURS[0], "-")
        axes.set_title(subject, fontsize=6)
    return figure


def _canonical(volume: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array (X, Y, Z) with axes to right, anterior, superior, and its spacing, mm."""
    array = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
    orientation = nib.orientations.io_orientation(volume.affine)
    spacing = [0.0, 0.0, 0.0]
    for axis, target in enumerate(orientation[:, 0].astype(int)):
        spacing[target] = volume.spacing[axis]
    return nib.orientations.apply_orientation(array, orientation), tuple(spacing)


def _slice(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Slice of a canonical array as (rows, columns), row 0 at the bottom; coronal and axial right to left."""
    plane = np.take(array, index, axis=axis).T
    return plane if axis == 0 else plane[:, ::-1]


def _in_plane(spacing: Sequence[float], axis: int) -> tuple[float, float]:
    """Size of a slice's pixel along its columns and rows, mm."""
    across, up = (size for other, size in enumerate(spacing) if other != axis)
    return across, up


def _largest_slice(mask: np.ndarray) -> int:
    """Axial slice with the most foreground; the middle one of an empty mask."""
    areas = np.count_nonzero(mask > 0, axis=(0, 1))
    return int(areas.argmax()) if areas.any() else mask.shape[2] // 2


def _window(array: np.ndarray) -> tuple[float, float]:
    """Intensities shown as black and white: robust against a few bright voxels."""
    low, high = np.percentile(array, (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(array.min()), float(array.max()))


def _show(
    axes: Axes, pixels: np.ndarray, pixel_size: tuple[float, float], window: tuple[float, float]
) -> None:
    across, up = pixel_size
    axes.imshow(pixels, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=up / across)
    axes.set_axis_off()


def _contour(axes: Axes, mask: np.ndarray, colour: str, style: str) -> bool:
    """Outline ``mask``; False where there is nothing to outline."""
    foreground = mask > 0
    if not foreground.any():
        return False
    # The margin closes the outline of masks that reach the edge.
    rows, columns = foreground.shape
    limits = axes.axis()
    axes.contour(
        np.arange(-1, columns + 1),
        np.arange(-1, rows + 1),
        np.pad(foreground.astype(float), 1),
        levels=[0.5],
        colors=[colour],
        linestyles=[style],
        linewidths=1.2,
    )
    axes.axis(limits)
    return True
