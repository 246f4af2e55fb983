"""One HTML page that holds a finished grid's whole result and opens without a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from dwp_kedro.evaluation.paired_comparison import compare_methods
from dwp_kedro.evaluation.summary import (
    cost_table,
    empty_predictions,
    mean_and_sd,
    ordered_methods,
    subject_table,
    summary_table,
    summary_tables_by_class,
)

METRIC_TITLES = {
    "dsc": "DSC on the preprocessed grid",
    "iou": "IoU on the preprocessed grid",
    "hd95": "95 % Hausdorff distance",
    "own_grid_dsc": "DSC on the scan's own grid",
}
N_CASES = 5


@dataclass(frozen=True)
class Table:
    """A table as text: the first cell of a row is its heading; ``best`` holds (row, column) of bold cells."""

    title: str
    header: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)


def build_report(
    *,
    title: str,
    scores: pd.DataFrame,
    reference: str,
    facts: Mapping[str, Mapping[str, str]],
    command: str,
    figures: Mapping[str, go.Figure | Figure],
    timings: pd.DataFrame,
    versions: Mapping[str, str],
    notice: str | None,
    further_tables: Mapping[str, pd.DataFrame] | None = None,
) -> str:
    """Return the report as one self-contained HTML page.

    ``scores`` are those of all cells; ``reference`` is the method that the others are compared with. ``facts``
    says in words what was compared on what: a block per heading (source cohort, target cohort, run), each a
    mapping of name to text. ``command`` reproduces the run. ``figures`` go by caption. ``timings`` has method,
    n_train, train_seconds and peak_memory_mb per cell. ``versions`` maps library to version. ``notice`` stands
    at the top, for results that must not be taken for evidence. ``further_tables`` (the prior's densities) come
    last, with their index as first column.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    cases = subject_table(scores)
    return template.render(
        title=title,
        notice=notice,
        facts=facts,
        command=command,
        summaries=[_summary(scores, metric) for metric in METRIC_TITLES],
        summaries_by_class=_summaries_by_class(scores),
        unequal_splits=(mean_and_sd(scores, "dsc").groupby("n_train")["n_splits"].nunique() > 1).any(),
        reference=reference,
        comparison=_comparison(scores, reference),
        empty=_methods_down("Predictions that left out a class which is there", empty_predictions(scores)),
        units=_units(scores),
        figures=[
            {"caption": caption, "html": _embedded(figure, caption, number)}
            for number, (caption, figure) in enumerate(figures.items(), start=1)
        ],
        worst=_table("Worst cases", cases.head(N_CASES).map("{:.2f}".format)),
        best=_table("Best cases", cases.iloc[::-1].head(N_CASES).map("{:.2f}".format)),
        costs=_costs(timings),
        further_tables=[_table(name, table) for name, table in (further_tables or {}).items()],
        versions=versions,
        plotly_js=Markup(get_plotlyjs()),
    )


def _table(title: str, frame: pd.DataFrame) -> Table:
    flat = frame.reset_index()
    rows = [
        [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in flat.to_numpy(dtype=object)
    ]
    header = ["n" if column == "n_train" else str(column).replace("_", " ") for column in flat.columns]
    return Table(title, header, rows)


def _methods_down(title: str, text: pd.DataFrame) -> Table:
    """Show a table that has a row per n_train and a column per method with a row per method: there may be many."""
    down = text.T.rename_axis(index="method")
    down.columns = [f"n = {n_train}" for n_train in down.columns]
    return _table(title, down)


def _summary(scores: pd.DataFrame, metric: str) -> Table:
    """Return the table of a metric with the best method of each n_train marked, ties together."""
    text = summary_table(scores, metric)
    title = METRIC_TITLES[metric]
    if metric == "hd95":
        title += f", {_units(scores)['distance']}"
    table = _methods_down(title, text)
    means = mean_and_sd(scores, metric).pivot(index="method", columns="n_train", values="mean")
    means = means.loc[text.columns, text.index]
    if metric == "hd95":
        means = -means
    if len(means) > 1:
        is_best = means.eq(means.max(axis="index"), axis="columns").to_numpy()
        table.best.update((row, column + 1) for row, column in zip(*is_best.nonzero(), strict=True))
    return table


def _summaries_by_class(scores: pd.DataFrame) -> list[Table]:
    by_class = summary_tables_by_class(scores, "dsc")
    if len(by_class) == 1:
        return []
    return [_methods_down(f"{METRIC_TITLES['dsc']}: {name}", table) for name, table in by_class.items()]


def _comparison(scores: pd.DataFrame, reference: str) -> Table | None:
    compared = compare_methods(scores, reference)
    if compared.empty:
        return None

    def interval(over: str) -> list[str]:
        ends = zip(compared[f"{over}_low"], compared[f"{over}_high"], strict=True)
        return ["–" if math.isnan(low) else f"{low:+.3f} to {high:+.3f}" for low, high in ends]

    shown = pd.DataFrame(
        {
            "n_train": compared["n_train"],
            "compared": [f"{row.reference} − {row.method}" for row in compared.itertuples()],
            "difference": compared["mean_difference"].map("{:+.3f}".format),
            "95 % over draws": interval("draws"),
            "draws": compared["n_draws"],
            "95 % over patients": interval("patients"),
            "patients": compared["n_subjects"],
            "W": compared["statistic"].map("{:g}".format),
            "p": compared["p_value"].map("{:.2g}".format),
            "p (Holm)": compared["p_holm"].map("{:.2g}".format),
        }
    )
    return _table(f"Difference of DSC between {reference} and each other method", shown.set_index("n_train"))


def _costs(timings: pd.DataFrame) -> list[Table]:
    costs = cost_table(timings)
    titles = {
        "train_seconds": "Training time of a cell, s",
        "peak_memory_mb": "Peak memory of a cell, MiB",
    }
    methods = ordered_methods(costs["method"])
    tables = {name: costs.pivot(index="n_train", columns="method", values=name)[methods] for name in titles}
    return [
        _methods_down(titles[name], table.map("{:,.0f}".format, na_action="ignore").fillna("–"))
        for name, table in tables.items()
    ]


def _units(scores: pd.DataFrame) -> dict[str, str]:
    return {
        "distance": " and ".join(scores["distance_unit"].unique()),
        "volume": " and ".join(scores["volume_unit"].unique()),
    }


def _embedded(figure: go.Figure | Figure, caption: str, number: int) -> Markup:
    if isinstance(figure, Figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(caption, encoded)
    # The button that uploads a chart's data to plotly's cloud has no place beside patients' scores.
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    html = figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=f"figure-{number}")
    return Markup(html)
