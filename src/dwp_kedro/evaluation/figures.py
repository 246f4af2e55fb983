"""Figures of a finished grid: scores per method, slices with contours, kernels.

Charts are plotly figures; pictures are matplotlib figures made without pyplot, so that threads may draw at
once. A method has the same colour in all of them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from dwp_kedro.evaluation.paired_comparison import student_interval
from dwp_kedro.evaluation.scores import Lazy, Spacing, value_of
from dwp_kedro.evaluation.summary import mean_and_sd, ordered_methods, split_means
from dwp_kedro.imaging.overlays import TRUTH_COLOUR, largest_slice, outline, show_slice, take_slice

# Okabe and Ito's palette, which colour-blind readers can tell apart, and what else stays apart from it; its yellow
# is the truth's.
METHOD_COLOURS = {"ri": "#009E73", "pr": "#56B4E9", "prf": "#CC79A7", "dwp": "#D55E00"}
OTHER_COLOURS = ("#E69F00", "#0072B2", "#999999", "#7A4FBF", "#A65628", "#44AA99", "#882255")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")

MOST_BOXES_ABREAST = 16

FONT = {"family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", "size": 14}


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Return a colour per method: a fixed one for ri, pr, prf and dwp, the next free one for any other."""
    others = cycle(OTHER_COLOURS)
    return {method: METHOD_COLOURS.get(method) or next(others) for method in ordered_methods(methods)}


def plotly_text(text: object) -> str:
    """Return a text that plotly shows as it is: it would take tags, entities and %{…} for its own."""
    return html.escape(str(text), quote=False).replace("%", "&#37;")


def matplotlib_text(text: str) -> str:
    """Keep matplotlib from reading dollar signs in a name as mathematics."""
    return text.replace("$", r"\$")


def dsc_against_train_size(scores: pd.DataFrame) -> go.Figure:
    """Draw mean test DSC against n_train, a line per method, with Student's 95 % interval over draws as bars.

    The mean of each draw (split) stands beside it as a faint point. Methods are moved apart a little along the
    x axis.
    """
    colours = method_colours(scores["method"])
    draws = split_means(scores, "dsc")
    means = mean_and_sd(scores, "dsc")
    intervals = draws.groupby(["method", "n_train"])["dsc"].agg(student_interval)
    means["half"] = [
        (high - low) / 2 for low, high in map(intervals.get, zip(means["method"], means["n_train"], strict=True))
    ]
    sizes = sorted(set(scores["n_train"]))
    step = min(0.05, 0.6 / len(colours)) * (min(np.diff(sizes)) if len(sizes) > 1 else 1)

    figure = go.Figure()
    for place, (method, colour) in enumerate(colours.items()):
        shift = (place - (len(colours) - 1) / 2) * step
        line = means[means["method"] == method].sort_values("n_train")
        points = draws[draws["method"] == method]
        symbol = SYMBOLS[place % len(SYMBOLS)]
        shown = plotly_text(method)
        figure.add_scatter(
            x=line["n_train"] + shift,
            y=line["mean"],
            error_y={"type": "data", "array": line["half"], "thickness": 1.5, "width": 4},
            mode="lines+markers",
            name=shown,
            legendgroup=shown,
            line={"color": colour, "width": 2.5},
            marker={"size": 9, "symbol": symbol},
            customdata=line.assign(half=line["half"].map("{:.3f}".format))[["n_train", "half", "n_splits"]],
            hovertemplate=(
                f"{shown}, n = %{{customdata[0]}}<br>mean %{{y:.3f}} ± %{{customdata[1]}} "
                "over %{customdata[2]} draws<extra></extra>"
            ),
        )
        figure.add_scatter(
            x=points["n_train"] + shift + step / 3,
            y=points["dsc"],
            mode="markers",
            name=f"{shown}, single draws",
            legendgroup=shown,
            showlegend=False,
            marker={"color": colour, "size": 5, "opacity": 0.45, "symbol": symbol},
            customdata=points[["n_train", "split"]],
            hovertemplate=(
                f"{shown}, n = %{{customdata[0]}}, draw %{{customdata[1]}}<br>mean %{{y:.3f}}<extra></extra>"
            ),
        )
    style_chart(figure, legend_title="method")
    figure.update_layout(height=max(440, 180 + 24 * len(colours)))  # a legend that does not fit is cut off
    margin = (len(colours) + 1) * step
    figure.update_xaxes(
        title="training volumes of the target cohort, n",
        tickvals=sizes,
        range=[sizes[0] - margin, sizes[-1] + margin],
    )
    # Student's interval of two draws reaches far beyond what a DSC can be.
    figure.update_yaxes(title="mean DSC of the test subjects", minallowed=-0.02, maxallowed=1.02)
    return figure


def score_distribution(scores: pd.DataFrame) -> go.Figure:
    """Draw the DSC of every test subject per method as points and box, a panel per n_train.

    A point is a subject, its DSC averaged over classes, seeds and the draws in which it was tested: what the
    tests compare. Panels stand side by side, or below one another if there are many boxes.
    """
    colours = method_colours(scores["method"])
    sizes = sorted(set(scores["n_train"]))
    per_draw = scores.groupby(["n_train", "method", "subject", "split"])["dsc"].mean()
    points = per_draw.groupby(level=[0, 1, 2]).agg(["mean", "min", "max", "size"]).round(4).reset_index()

    below = len(colours) * len(sizes) > MOST_BOXES_ABREAST
    figure = make_subplots(
        rows=len(sizes) if below else 1,
        cols=1 if below else len(sizes),
        shared_xaxes=below,
        shared_yaxes=not below,
        horizontal_spacing=0.03,
        vertical_spacing=0.15 / len(sizes),
        subplot_titles=[f"n = {n_train}" for n_train in sizes],
    )
    for place, n_train in enumerate(sizes, start=1):
        for method, colour in colours.items():
            rows = points[(points["n_train"] == n_train) & (points["method"] == method)]
            figure.add_box(
                y=rows["mean"],
                name=plotly_text(method),
                legendgroup=plotly_text(method),
                showlegend=False,
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                fillcolor=f"rgba{(*hex_to_rgb(colour), 0.18)}",
                line={"color": colour, "width": 2},
                marker={"color": colour, "size": 4, "opacity": 0.5},
                customdata=[
                    [plotly_text(row.subject), row.size, row.min, row.max] for row in rows.itertuples(index=False)
                ],
                hovertemplate=(
                    "%{customdata[0]}<br>DSC %{y:.3f}, mean of %{customdata[1]} draws "
                    "(%{customdata[2]:.3f} to %{customdata[3]:.3f})<extra></extra>"
                ),
                hoveron="points",
                row=place if below else 1,
                col=1 if below else place,
            )
    style_chart(figure, legend_title="")
    if below:
        figure.update_layout(height=100 + 240 * len(sizes))
    figure.update_yaxes(range=[-0.03, 1.03])
    figure.update_yaxes(title="DSC of a test subject", col=1)
    return figure


def paired_scores(scores: pd.DataFrame, reference: str) -> go.Figure:
    """Draw every test subject's DSC by ``reference`` against that by each other method, a panel per n_train.

    Two panels stand side by side: more would be too narrow on paper.
    A point is a subject, its DSC averaged over classes, seeds and the draws that both methods have; above the
    diagonal ``reference`` is the better one.
    """
    colours = method_colours(scores["method"])
    sizes = sorted(set(scores["n_train"]))
    n_columns, n_rows = min(len(sizes), 2), -(-len(sizes) // 2)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.25 / n_rows,
        subplot_titles=[f"n = {n_train}" for n_train in sizes],
        x_title="DSC by the other method",
    )
    above = f"<br>{plotly_text(reference)} %{{y:.3f}}<extra></extra>"
    keys = ["subject", "split", "seed"]
    per_draw = scores.groupby(["n_train", "method", *keys])["dsc"].mean()
    for place, n_train in enumerate(sizes):
        panel = {"row": place // n_columns + 1, "col": place % n_columns + 1}
        figure.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": "#999999", "width": 1}, showlegend=False,
            hoverinfo="skip", **panel,
        )  # fmt: skip
        methods = per_draw[n_train].unstack("method")
        for method in ordered_methods(methods.columns):
            if method == reference or reference not in methods:
                continue
            pairs = methods[[method, reference]].dropna().groupby("subject").mean().round(4)
            figure.add_scatter(
                x=pairs[method],
                y=pairs[reference],
                mode="markers",
                name=plotly_text(method),
                legendgroup=plotly_text(method),
                showlegend=place == 0,
                marker={"color": colours[method], "size": 7, "opacity": 0.7},
                text=[plotly_text(subject) for subject in pairs.index],
                hovertemplate=f"%{{text}}<br>{plotly_text(method)} %{{x:.3f}}{above}",
                **panel,
            )
    style_chart(figure, legend_title="against")
    figure.update_layout(height=440 * n_rows)
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.02])
    figure.update_yaxes(title=f"DSC by {plotly_text(reference)}", col=1)
    return figure


def segmentation_slices(
    scores: pd.DataFrame,
    images: Mapping[str, Lazy[np.ndarray]],
    truths: Mapping[str, Lazy[np.ndarray]],
    predictions: Mapping[str, Mapping[str, Lazy[np.ndarray]]],
    subjects: Mapping[str, str],
    spacing: Spacing | None = None,
) -> Figure:
    """Draw a slice of each subject: bare, with the truth's contour, then with each method's as well.

    ``subjects`` maps what a row shows ("best", "median", "worst") to a subject. ``predictions`` maps method
    to subject to label map; images and label maps are (x, y, z) in canonical orientation (RAS), and the
    view is radiological: the patient's right is on the left. ``scores`` are those of the predictions shown;
    a panel's DSC is the mean over classes. The slice is the axial one with the most true voxels.
    ``spacing`` in mm sets the pixels' proportions. This is the form of the paper's Fig. 6.
    """
    methods = ordered_methods(predictions)
    colours = method_colours(methods)
    n_columns = 2 + len(methods)
    dsc = scores.groupby(["method", "subject"])["dsc"].mean()

    figure = Figure(figsize=(2.3 * n_columns + 0.4, 2.6 * len(subjects) + 0.5), layout="constrained", dpi=110)
    grid = figure.subplots(len(subjects), n_columns, squeeze=False)
    for axes_row, (what, subject) in zip(grid, subjects.items(), strict=True):
        image, truth = value_of(images[subject]), value_of(truths[subject])
        z = largest_slice(truth)
        true_slice = take_slice(truth, 2, z)
        for axes in axes_row:
            show_slice(axes, image, 2, z, spacing or (1.0, 1.0, 1.0))
        for axes in axes_row[1:]:
            outline(axes, true_slice, TRUTH_COLOUR, "solid" if axes is axes_row[1] else "dashed")
        for axes, method in zip(axes_row[2:], methods, strict=True):
            prediction = value_of(predictions[method][subject])
            outline(axes, take_slice(prediction, 2, z), colours[method])
            title = matplotlib_text(f"{method}, DSC {dsc[method, subject]:.2f}")
            axes.set_title(title, fontsize=11, color="#222222")
        axes_row[0].set_title("image", fontsize=11)
        axes_row[1].set_title("truth", fontsize=11)
        axes_row[0].set_ylabel(matplotlib_text(f"{what}: {subject}"), fontsize=11)
    return figure


def kernel_figure(real: np.ndarray, samples: np.ndarray, title: str) -> Figure:
    """Draw kernels of the source networks beside samples of the prior, each kernel as its three slices.

    ``real`` and ``samples`` are (n, 3, 3, 3) of one kernel group and share a colour scale, which is symmetric
    about 0 and ends at the largest 99 % quantile of |w| of the two. This is the form of the paper's Fig. 5.
    """
    return kernel_panels({"source kernels": real, "prior samples": samples}, title)


def kernel_panels(panels: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw sets of kernels (n, 3, 3, 3) side by side under their names, on one scale, that of kernel_figure."""
    limit = max(float(np.quantile(np.abs(kernels), 0.99)) for kernels in panels.values()) or 1.0
    most = max(len(kernels) for kernels in panels.values())
    n_columns = min(4, most)
    n_rows = -(-most // n_columns)
    width = 1.6 + len(panels) * n_columns
    figure = Figure(figsize=(width, 0.9 + 0.36 * n_rows), layout="constrained", dpi=110)
    axes_row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, kernels) in zip(axes_row, panels.items(), strict=True):
        axes.set_title(matplotlib_text(f"{name} ({len(kernels)})"), fontsize=11)
        axes.set_axis_off()
        axes.set(xlim=(-2.5, 12 * n_columns - 1.5), ylim=(4 * n_rows - 0.5, -0.5), aspect="equal")
        for index, kernel in enumerate(kernels):
            left, top = 12 * (index % n_columns), 4 * (index // n_columns)
            # (3, 3, 3) laid out as 3 rows of 9: the slices across the first axis side by side.
            shown = axes.imshow(
                np.hstack(list(kernel)), cmap="RdBu_r", vmin=-limit, vmax=limit,
                extent=(left - 0.5, left + 8.5, top + 2.5, top - 0.5),
            )  # fmt: skip
            for column in range(3):
                corner = (left - 0.5 + 3 * column, top - 0.5)
                axes.add_patch(Rectangle(corner, 3, 3, fill=False, edgecolor="#555555", linewidth=0.6))
    figure.colorbar(shown, ax=axes_row, shrink=0.9, label="weight")
    figure.suptitle(matplotlib_text(title), fontsize=12)
    return figure


def style_chart(figure: go.Figure, *, legend_title: str) -> None:
    """Give a chart the look of all charts."""
    figure.update_layout(
        template="plotly_white",
        font=FONT,
        height=440,
        margin={"l": 70, "r": 20, "t": 50, "b": 60},
        legend={"title": legend_title},
        hoverlabel={"font": FONT},
    )
