"""The picture of a new scan: all three planes through its largest lesion."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dwp_kedro.imaging.overlays import (
    _EDGES,
    _PLANES,
    TRUTH_COLOUR,
    _canonical,
    outline,
    show_slice,
    take_slice,
)
from dwp_kedro.imaging.postprocessing import label_components
from dwp_kedro.imaging.volume import Volume


def lesion_picture(image: Volume, mask: Volume) -> Figure:
    """Show the slice of each plane with the most of the mask's largest component, mask outlined.

    Each class is outlined by itself; where the mask is empty, the middle slices are shown.
    """
    array, spacing = _canonical(image)
    values, _ = _canonical(mask)
    components, sizes = label_components(values > 0)
    largest = components == sizes.argmax() + 1 if sizes.size else np.zeros(values.shape, dtype=bool)
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    for axes, (plane, axis) in zip(figure.subplots(1, 3), _PLANES, strict=True):
        areas = largest.sum(axis=tuple(other for other in range(3) if other != axis))
        index = int(areas.argmax()) if sizes.size else values.shape[axis] // 2
        show_slice(axes, array, axis, index, spacing)
        outline(axes, take_slice(values, axis, index), TRUTH_COLOUR)
        left, right = _EDGES[plane]
        axes.text(0.01, 0.5, left, color="white", transform=axes.transAxes, va="center")
        axes.text(0.99, 0.5, right, color="white", transform=axes.transAxes, va="center", ha="right")
        axes.set_title(plane, fontsize=9)
    return figure
