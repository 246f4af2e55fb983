"""One HTML page that holds a finished grid's whole result and opens without a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from importlib import resources

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from dwp_kedro.evaluation import report_tables as tables
from dwp_kedro.evaluation.summary import mean_and_sd


def build_report(
    *,
    title: str,
    scores: pd.DataFrame,
    reference: str,
    facts: Mapping[str, Mapping[str, str]],
    command: str,
    restricted_by: str,
    figures: Mapping[str, go.Figure | Figure],
    timings: pd.DataFrame,
    uncertainty: pd.DataFrame,
    prior: pd.DataFrame | None,
    circumstances: Mapping[str, Mapping[str, str]],
    notice: str | None,
) -> str:
    """Return the report as one self-contained HTML page.

    Texts are shown as they are: none of them can become markup. Those in plotly figures are the figures' own care.

    Args:
        title: of the page.
        scores: those of all cells.
        reference: the method that the others are compared with.
        facts: what was compared on what, in words: a block per heading (source, target, experiment), each a
            mapping of name to text.
        command: the one that made the page.
        restricted_by: options with which it made a part only; empty if it made everything.
        figures: by caption.
        timings: method, n_train, train_seconds (s) and peak_memory_mb (MiB) per cell.
        uncertainty: the table of :func:`~dwp_kedro.evaluation.uncertainty.summarise_uncertainty`.
        prior: how well each group's prior describes kernels, under headings to be read; the index comes first.
        circumstances: blocks as ``facts``, which come last: when, on what hardware, with which versions.
        notice: stands at the top, for results that must not be taken for evidence.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        notice=notice,
        facts=facts,
        command=command,
        restricted_by=restricted_by,
        summaries=tables.summaries(scores),
        summaries_by_class=tables.summaries_by_class(scores),
        unequal_splits=(mean_and_sd(scores, "dsc").groupby("n_train")["n_splits"].nunique() > 1).any(),
        reference=reference,
        comparison=tables.comparison(scores, reference),
        empty=tables.missed_classes(scores),
        units=tables.units(scores),
        figures=[
            {"caption": caption, "html": _embedded(figure, caption, number)}
            for number, (caption, figure) in enumerate(figures.items(), start=1)
        ],
        cases=tables.cases(scores),
        costs=tables.costs(timings),
        n_cells=len(timings),
        total_time=_duration(timings["train_seconds"].sum()),
        uncertainty=tables.uncertainty(uncertainty),
        prior=None if prior is None else tables.table_of("Priors, by kernel group", prior),
        circumstances=circumstances,
        plotly_js=Markup(get_plotlyjs()),
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


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
