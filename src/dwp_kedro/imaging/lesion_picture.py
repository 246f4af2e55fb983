"""The picture of a new scan: all three planes through its largest lesion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dwp_kedro.imaging.overlays import CLASS_COLOURS, PLANES, outline, show_plane, take_slice, to_canonical
from dwp_kedro.imaging.postprocessing import label_components
from dwp_kedro.imaging.volume import Volume

_TINT = 0.25  # opacity


def lesion_picture(image: Volume, mask: Volume, class_names: Sequence[str], name: str) -> Figure:
    """Show the slice of each plane with the most of the mask's largest component, every class outlined and tinted.

    Where the mask is empty, the middle slices are shown.

    Args:
        image: the scan.
        mask: on its grid: 0 background, 1, 2, … the classes.
        class_names: of classes 1, 2, …, for the legend.
        name: of the scan, for the title.
    """
    array, spacing = to_canonical(image)
    values, _ = to_canonical(mask)
    components, sizes = label_components(values > 0)
    largest = components == sizes.argmax() + 1 if sizes.size else np.zeros(values.shape, dtype=bool)
    figure = Figure(figsize=(9, 4), layout="constrained")
    # A file's name may hold any sign, also those that would begin a formula.
    shown = "slices through the largest component" if sizes.size else "nothing found, middle slices"
    figure.suptitle(f"{name} ({shown})", fontsize=10, parse_math=False)
    colours = [CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(len(class_names))]
    for axes, (plane, axis) in zip(figure.subplots(1, 3), PLANES.items(), strict=True):
        areas = largest.sum(axis=tuple(other for other in range(3) if other != axis))
        index = int(areas.argmax()) if sizes.size else values.shape[axis] // 2
        show_plane(axes, array, plane, index, spacing)
        of_slice = take_slice(values, axis, index)
        # Where classes touch, one outline hides the other; the tint tells which is inside.
        tints = np.array([(0, 0, 0, 0), *(to_rgba(colour, _TINT) for colour in colours)])
        axes.imshow(tints[of_slice], origin="lower", aspect=axes.get_aspect())
        for value, colour in enumerate(colours, start=1):
            outline(axes, of_slice == value, colour)
    lines = [
        Line2D([], [], color=colour, label=class_name if (values == value).any() else f"{class_name}: none found")
        for value, (class_name, colour) in enumerate(zip(class_names, colours, strict=True), start=1)
    ]
    legend = figure.legend(
        handles=lines, loc="outside lower center", ncols=4, fontsize=9, facecolor="black", framealpha=1
    )
    for text in legend.get_texts():
        text.set(color="white", parse_math=False)
    return figure
