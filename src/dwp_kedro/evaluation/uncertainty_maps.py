"""One case in slices: what the network draws, how probable it holds each voxel, and where it is unsure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dwp_kedro.evaluation.scores import Spacing
from dwp_kedro.imaging.overlays import TRUTH_COLOUR, outline, show_slice, take_slice

PREDICTION_COLOUR = "#D55E00"
_TITLES = ("image: truth yellow, network orange", "foreground probability", "entropy, nats")


def uncertainty_maps(
    image: np.ndarray,
    truth: np.ndarray,
    probability: np.ndarray,
    entropy: np.ndarray,
    title: str,
    *,
    n_slices: int = 3,
    spacing: Spacing = (1.0, 1.0, 1.0),
) -> Figure:
    """Draw a row per slice: the image with both contours, the foreground probability, the entropy.

    Args:
        image: (x, y, z) in canonical orientation (RAS); the view is radiological.
        truth: label map (x, y, z), 0 for background.
        probability: of the classes (classes, x, y, z); class 0 is the background.
        entropy: of the classes' probabilities (x, y, z), nats; the scale ends at log(classes).
        title: of the figure.
        n_slices: axial slices, evenly over those with true foreground; with predicted, if there is none of it.
        spacing: mm; sets the pixels' proportions.
    """
    label = probability.argmax(0)
    shown_whole = truth if truth.any() else label
    held = np.flatnonzero((shown_whole > 0).any(axis=(0, 1)))
    first, last = (held[0], held[-1]) if held.size else (0, image.shape[2] - 1)
    slices = np.linspace(first, last, n_slices + 2)[1:-1].round().astype(int)
    figure = Figure(figsize=(8.4, 2.7 * n_slices + 0.5), layout="constrained", dpi=110)
    grid = figure.subplots(n_slices, 3, squeeze=False)
    aspect = spacing[1] / spacing[0]
    maps = ((probability[1:].sum(0), "viridis", 1.0), (entropy, "magma", float(np.log(len(probability)))))
    for axes_row, z in zip(grid, slices, strict=True):
        show_slice(axes_row[0], image, 2, z, spacing)
        for mask, colour in ((truth, TRUTH_COLOUR), (label, PREDICTION_COLOUR)):
            outline(axes_row[0], take_slice(mask, 2, z), colour)
        axes_row[0].set_ylabel(f"slice {z}", fontsize=9)
        for axes, (values, colours, most) in zip(axes_row[1:], maps, strict=True):
            shown = axes.imshow(
                take_slice(values, 2, z), cmap=colours, vmin=0, vmax=most, origin="lower", aspect=aspect
            )
            axes.set(xticks=[], yticks=[])
            figure.colorbar(shown, ax=axes, shrink=0.8)
    for axes, heading in zip(grid[0], _TITLES, strict=True):
        axes.set_title(heading, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure
