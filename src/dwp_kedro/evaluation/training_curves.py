"""Training curves of a whole grid in one chart that stays small and readable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from dwp_kedro.evaluation.figures import method_colours, plotly_text, style_chart
from dwp_kedro.evaluation.summary import ordered_methods

MOST_POINTS = 80


def training_curves(histories: Mapping[tuple[str, int, int, int], pd.DataFrame]) -> go.Figure:
    """Draw training curves: a row of panels per curve, a column per n_train, a line per method.

    ``histories`` maps (method, n_train, split, seed) to a table with the column step and one column per curve.
    The line is the mean over the cells of that method and n_train, as far as all of them trained; the cells
    themselves are thin lines beneath. Of a curve with more than ``MOST_POINTS`` points, that many are drawn,
    evenly spread and with both ends.
    """
    methods = ordered_methods(method for method, *_ in histories)
    colours = method_colours(methods)
    sizes = sorted({n_train for _, n_train, *_ in histories})
    curves = list(dict.fromkeys(c for history in histories.values() for c in history.columns if c != "step"))
    figure = make_subplots(
        rows=len(curves),
        cols=len(sizes),
        shared_yaxes="rows",
        column_titles=[f"n = {n_train}" for n_train in sizes],
        horizontal_spacing=0.02,
        vertical_spacing=0.2 / len(curves),
    )
    in_legend: set[str] = set()
    for row, curve in enumerate(curves, start=1):
        for column, n_train in enumerate(sizes, start=1):
            cells = {method: _cells_by_step(histories, method, n_train, curve) for method in methods}
            where = {"row": row, "col": column}
            # All thin lines before the first mean, so that no mean is hidden.
            for method, table in cells.items():
                if table.shape[1] > 1:
                    figure.add_scatter(**_thin_lines(table, method, colours[method]), **where)
            for method, table in cells.items():
                if not table.empty:
                    figure.add_scatter(
                        **_mean_line(table, method, colours[method]), showlegend=method not in in_legend, **where
                    )
                    in_legend.add(method)
        figure.update_yaxes(title=plotly_text(curve.replace("_", " ")), row=row, col=1)
        if curve == "learning_rate":
            figure.update_yaxes(type="log", exponentformat="power", dtick=1, row=row)
    style_chart(figure, legend_title="")
    figure.update_layout(height=120 + 190 * len(curves))
    figure.update_xaxes(title="step", row=len(curves))
    return figure


def _cells_by_step(
    histories: Mapping[tuple[str, int, int, int], pd.DataFrame], method: str, n_train: int, curve: str
) -> pd.DataFrame:
    """Return one curve of the cells of a method and n_train: a row per step, a column per cell."""
    chosen = {
        cell[2:]: history.set_index("step")[curve].dropna()
        for cell, history in histories.items()
        if cell[:2] == (method, n_train) and curve in history
    }
    if not chosen:
        return pd.DataFrame()
    table = pd.concat(chosen, axis="columns").sort_index()
    kept = np.unique(np.linspace(0, len(table) - 1, MOST_POINTS).round().astype(int))
    return table.iloc[kept]


def _mean_line(table: pd.DataFrame, method: str, colour: str) -> dict[str, object]:
    mean = table.mean(axis="columns", skipna=False).dropna()
    shown = plotly_text(method)
    return {
        "x": mean.index.to_numpy(),
        "y": mean.to_numpy(np.float32),
        "mode": "lines",
        "name": shown,
        "legendgroup": shown,
        "line": {"color": colour, "width": 2},
        "hovertemplate": f"{shown}, mean of {table.shape[1]}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
    }


def _thin_lines(table: pd.DataFrame, method: str, colour: str) -> dict[str, object]:
    """Put all cells into one line with gaps: one trace is drawn faster than ten."""
    x, y = [], []
    for _, values in table.items():
        x += [*table.index, table.index[-1]]
        y += [*values, np.nan]
    return {
        "x": np.asarray(x),
        "y": np.asarray(y, np.float32),
        "mode": "lines",
        "name": f"{plotly_text(method)}, single cells",
        "legendgroup": plotly_text(method),
        "showlegend": False,
        "connectgaps": False,
        "line": {"color": f"rgba{(*hex_to_rgb(colour), 0.3)}", "width": 0.8},
        "hoverinfo": "skip",
    }
