"""What a prior's latent dimensions do to a kernel: a chart with sliders, and the same as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from dwp_kedro.evaluation.figures import FONT, matplotlib_text, plotly_text

SLIDER_HEIGHT, KERNEL_HEIGHT = 76, 190  # pixels


def latent_sliders(traversals: np.ndarray, values: Sequence[float], names: Sequence[str], title: str) -> go.Figure:
    """Draw a kernel with a slider per latent dimension, which moves it along that dimension alone.

    Args:
        traversals: kernels (dimensions, values, 3, 3, 3), the decoder's mean at each value of each dimension while
            the others are 0.
        values: of the latent dimensions; the one nearest 0 is shown first.
        names: of the dimensions.
        title: what prior it is.
    """
    start = int(np.abs(np.asarray(values)).argmin())
    limit = _limit(traversals)
    figure = go.Figure(
        go.Heatmap(
            z=_rows(traversals[0, start]), zmin=-limit, zmax=limit, colorscale="RdBu", reversescale=True,
            hoverongaps=False, hovertemplate="weight %{z:.3g}<extra></extra>", colorbar={"title": "weight"},
        )
    )  # fmt: skip
    height = KERNEL_HEIGHT + SLIDER_HEIGHT * len(traversals)
    figure.update_layout(
        title=plotly_text(title), font=FONT, height=height + 100, width=640, plot_bgcolor="white",
        margin={"l": 20, "r": 20, "t": 60, "b": SLIDER_HEIGHT * len(traversals) + 40},
        sliders=[
            {
                "active": start,
                "currentvalue": {"prefix": f"{plotly_text(name)}: ", "font": {"size": 12}},
                "font": {"size": 10},
                "pad": {"t": 4 + SLIDER_HEIGHT * place},
                "steps": [
                    {"method": "restyle", "label": f"{value:g}", "args": [{"z": [_rows(kernel)]}]}
                    for value, kernel in zip(values, kernels, strict=True)
                ],
            }
            for place, (name, kernels) in enumerate(zip(names, traversals, strict=True))
        ],
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x")
    return figure


def latent_grid(traversals: np.ndarray, values: Sequence[float], names: Sequence[str], title: str) -> Figure:
    """Draw the same as a picture: a row per latent dimension, a column per value."""
    limit = _limit(traversals)
    n_rows, n_columns = len(traversals), len(values)
    figure = Figure(figsize=(1.5 * n_columns + 1.4, 0.55 * n_rows + 0.9), layout="constrained", dpi=110)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, value in zip(grid[0], values, strict=True):
        axes.set_title(f"{value:g}", fontsize=9)
    for axes_row, kernels, name in zip(grid, traversals, names, strict=True):
        for axes, kernel in zip(axes_row, kernels, strict=True):
            shown = axes.imshow(_slices_abreast(kernel), cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("#BBBBBB")
        axes_row[0].set_ylabel(matplotlib_text(name), fontsize=9, rotation=0, ha="right", va="center")
    figure.colorbar(shown, ax=grid, shrink=0.9, label="weight")
    figure.suptitle(matplotlib_text(title), fontsize=11)
    return figure


def _slices_abreast(kernel: np.ndarray) -> np.ndarray:
    """Lay the three slices across a kernel's first axis side by side, (3, 11), with gaps of NaN."""
    gap = np.full((3, 1), np.nan)
    return np.hstack([kernel[0], gap, kernel[1], gap, kernel[2]])


def _rows(kernel: np.ndarray) -> list[list[float | None]]:
    """Give :func:`_slices_abreast` as JSON has it: what a slider hands over is not converted."""
    return [[None if np.isnan(weight) else float(weight) for weight in row] for row in _slices_abreast(kernel)]


def _limit(kernels: np.ndarray) -> float:
    """End of a colour scale that is symmetric about 0."""
    return float(np.abs(kernels).max()) or 1.0
