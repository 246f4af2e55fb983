"""One figure that says whether a network's uncertainty can be trusted, for those who read scans."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dwp_kedro.evaluation.figures import method_colours, plotly_text, style_chart
from dwp_kedro.evaluation.uncertainty import REGION_MARGIN, pooled_bins

PERCENT_SET_ASIDE = tuple(range(0, 90, 10))
LEAST_VOXELS = 50  # a share of fewer would be chance
PANEL_HEIGHT, GAP_HEIGHT, LINE_HEIGHT = 280, 130, 17  # pixels
NOTE_WIDTH = 92  # characters: so that it fits a printed page too
NOTE = (
    "<b>Left:</b> of the voxels that the network calls foreground with about 80 %, are 80 % foreground? On the "
    "dotted line, yes; below it the network claims too much, above it too little. Larger points stand for more "
    f"voxels. Only voxels within {REGION_MARGIN} voxels of the true or the predicted foreground count: farther "
    "away no label is wrong.",
    "<b>Right:</b> if the patients with the least certain segmentations go to review, how good are the others? A "
    "line that climbs above its dotted one (patients set aside at random) knows which segmentations are bad. The "
    "certainty comes from the network's probabilities alone, not from the truth. Towards the right, ever fewer "
    "patients are left. DSC: the overlap with the expert's outline, 0 for none and 1 for the same outline.",
)


def uncertainty_figure(rows: pd.DataFrame, methods: Mapping[str, str]) -> go.Figure:
    """Draw reliability and DSC against review, a row of two panels per n_train and a line per method.

    ``methods`` says in words what each is that its name alone does not tell. ``rows`` is the table of all cells
    (``UNCERTAINTY_COLUMNS``). Bins are pooled over subjects, seeds and draws; the curves of :func:`review_curve`
    are averaged over the seeds of a draw, then over draws.
    """
    colours = method_colours(rows["method"])
    sizes = sorted(set(rows["n_train"]))
    figure = make_subplots(
        rows=len(sizes),
        cols=2,
        horizontal_spacing=0.14,
        vertical_spacing=GAP_HEIGHT / _panels_height(len(sizes)),
        subplot_titles=[
            title
            for n_train in sizes
            for title in (
                f"When it says 80 %,<br>how often is it right? (n = {n_train})",
                f"Does it know which<br>segmentations are bad? (n = {n_train})",
            )
        ],
    )
    in_legend: set[str] = set()
    for row, n_train in enumerate(sizes, start=1):
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": "#888888", "dash": "dot", "width": 1.5},
            showlegend=False, hoverinfo="skip", row=row, col=1,
        )  # fmt: skip
        for method, colour in colours.items():
            of_method = rows[(rows["method"] == method) & (rows["n_train"] == n_train)]
            if of_method.empty:
                continue
            shown = plotly_text(method)
            style = {"name": shown, "legendgroup": shown, "line": {"color": colour, "width": 2.5}}
            figure.add_trace(_reliability(of_method, style, method not in in_legend), row=row, col=1)
            in_legend.add(method)
            for trace in _review(of_method, style):
                figure.add_trace(trace, row=row, col=2)
    _arrange(figure, len(sizes), [*NOTE, *_glossary(colours, methods)])
    return figure


def review_curve(rows: pd.DataFrame) -> pd.Series:
    """Mean DSC of the subjects kept, by the percentage set aside (the index), the most uncertain first.

    ``rows`` are the subjects of one network. Of n subjects, percentage·n/100 are set aside, rounded down.
    """
    dsc = rows.sort_values("uncertainty", kind="stable")["dsc"].to_numpy()
    means = [dsc[: len(dsc) - len(dsc) * percent // 100].mean() for percent in PERCENT_SET_ASIDE]
    return pd.Series(means, index=pd.Index(PERCENT_SET_ASIDE, name="percent"), name="dsc")


def mean_review_curve(rows: pd.DataFrame) -> pd.Series:
    """Average :func:`review_curve` over the seeds of a draw, then over draws.

    ``rows`` are those of one method and n_train.
    """
    curves = pd.DataFrame({cell: review_curve(group) for cell, group in rows.groupby(["split", "seed"])}).T
    return curves.groupby(level=0).mean().mean()


def _reliability(rows: pd.DataFrame, style: dict[str, Any], in_legend: bool) -> go.Scatter:
    bins = pooled_bins(rows)
    bins = bins[bins["n_voxels"] >= LEAST_VOXELS]
    share = bins["n_voxels"] / bins["n_voxels"].sum()
    return go.Scatter(
        x=bins["sum_probability"] / bins["n_voxels"],
        y=bins["n_foreground"] / bins["n_voxels"],
        mode="lines+markers",
        marker={"size": 5 + 20 * np.sqrt(share), "opacity": 0.75, "line": {"width": 0}},
        customdata=share,
        hovertemplate=(
            "says %{x:.0%}, is foreground in %{y:.0%}<br>%{customdata:.1%} of the voxels"
            f"<extra>{style['name']}</extra>"
        ),
        showlegend=in_legend,
        **style,
    )


def _review(rows: pd.DataFrame, style: dict[str, Any]) -> list[go.Scatter]:
    curve = mean_review_curve(rows)
    at_random = {**style, "line": {**style["line"], "dash": "dot", "width": 1.2}}
    return [
        go.Scatter(
            x=curve.index / 100,
            y=curve,
            mode="lines+markers",
            marker={"size": 7},
            hovertemplate=f"%{{x:.0%}} set aside: mean DSC %{{y:.3f}}<extra>{style['name']}</extra>",
            showlegend=False,
            **style,
        ),
        go.Scatter(
            x=curve.index[[0, -1]] / 100, y=[curve.iloc[0]] * 2, mode="lines", hoverinfo="skip", showlegend=False,
            **at_random,
        ),
    ]  # fmt: skip


def _panels_height(n_rows: int) -> int:
    return PANEL_HEIGHT * n_rows + GAP_HEIGHT * (n_rows - 1)


def _glossary(drawn: Iterable[str], methods: Mapping[str, str]) -> list[str]:
    return [f"<b>{plotly_text(name)}:</b> {plotly_text(methods[name])}." for name in drawn if name in methods]


def _arrange(figure: go.Figure, n_rows: int, note: Sequence[str]) -> None:
    lines = [line for paragraph in note for line in textwrap.wrap(paragraph, NOTE_WIDTH)]
    note_height = LINE_HEIGHT * (len(lines) + 1)
    style_chart(figure, legend_title="method")
    figure.update_layout(
        height=_panels_height(n_rows) + 110 + 75 + note_height,
        margin={"t": 110, "b": 75 + note_height},
        # Above the panels, which on paper need the whole width.
        legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0},
    )
    figure.update_annotations(font_size=14)
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(tickformat=".0%", range=[-0.02, 1.02], col=1, title="truly foreground")
    figure.update_xaxes(title="foreground probability<br>that the network gives", range=[-0.02, 1.02], col=1)
    figure.update_xaxes(title="patients set aside,<br>the least certain first", col=2)
    figure.update_yaxes(title="mean DSC of the others", tickformat=".2f", col=2)
    for row in range(2, n_rows + 1):  # all on the scale of the first, which must not match itself
        figure.update_yaxes(matches="y2", row=row, col=2)
    figure.update_xaxes(title_font_size=14)
    figure.update_yaxes(title_font_size=14)
    figure.add_annotation(
        text="<br>".join(lines), x=0, y=0, xref="paper", yref="paper", xanchor="left", yanchor="top", yshift=-75,
        align="left", showarrow=False, font_size=12.5,
    )  # fmt: skip
