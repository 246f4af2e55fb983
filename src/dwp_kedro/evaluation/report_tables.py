"""The tables of the report: numbers as text, under headings that people read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from dwp_kedro.evaluation.paired_comparison import compare_methods
from dwp_kedro.evaluation.summary import (
    case_table,
    cost_table,
    empty_predictions,
    mean_and_sd,
    ordered_methods,
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
MISSING = "–"
_UNCERTAINTY = {
    "ece": "calibration error (ECE)",
    "auroc_entropy": "AUROC of the entropy",
    "auroc_mutual_information": "AUROC of the mutual information",
    "rank_correlation": "rank correlation with the DSC",
}


@dataclass(frozen=True)
class Table:
    """A table as text: the first cell of a row is its heading; ``best`` holds (row, column) of bold cells."""

    title: str
    header: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)


def table_of(title: str, frame: pd.DataFrame) -> Table:
    """Turn a frame with headings into a table; the index comes first, and what is missing is an en dash."""
    flat = frame.reset_index()
    rows = [[_text(cell) for cell in row] for row in flat.to_numpy(dtype=object)]
    header = ["n" if column == "n_train" else str(column) for column in flat.columns]
    return Table(title, header, rows)


def summaries(scores: pd.DataFrame) -> list[Table]:
    """Return a table per metric with the best method of each n_train marked, ties together."""
    return [_summary(scores, metric) for metric in METRIC_TITLES]


def summaries_by_class(scores: pd.DataFrame) -> list[Table]:
    """Return a table of the DSC per class, if there are several."""
    by_class = summary_tables_by_class(scores, "dsc")
    if len(by_class) == 1:
        return []
    return [_methods_down(f"{METRIC_TITLES['dsc']}: {name}", table) for name, table in by_class.items()]


def missed_classes(scores: pd.DataFrame) -> Table:
    """Return how many predictions left out a class that is there."""
    return _methods_down("Predictions that left out a class which is there", empty_predictions(scores))


def comparison(scores: pd.DataFrame, reference: str) -> Table | None:
    """Return the differences to ``reference`` with intervals and tests; None if nothing can be compared."""
    compared = compare_methods(scores, reference)
    if compared.empty:
        return None

    def interval(over: str) -> list[str]:
        ends = zip(compared[f"{over}_low"], compared[f"{over}_high"], strict=True)
        return [MISSING if math.isnan(low) else f"{low:+.3f} to {high:+.3f}" for low, high in ends]

    shown = pd.DataFrame(
        {
            "n_train": compared["n_train"],
            "compared": [f"{row.reference} − {row.method}" for row in compared.itertuples()],
            "difference": _formatted(compared["mean_difference"], "+.3f"),
            "95 % over draws": interval("draws"),
            "draws": compared["n_draws"],
            "95 % over patients": interval("patients"),
            "patients": compared["n_subjects"],
            "W": _formatted(compared["statistic"], "g"),
            "p": _formatted(compared["p_value"], ".2g"),
            "p (Holm)": _formatted(compared["p_holm"], ".2g"),
        }
    )
    return table_of(f"Difference of DSC between {reference} and each other method", shown.set_index("n_train"))


def cases(scores: pd.DataFrame) -> list[Table]:
    """Return the worst and the best subjects; all in one table if there are not enough for both.

    No subject is in two tables. There is none if no subject was tested under every method.
    """
    table = case_table(scores)
    shown = pd.DataFrame(
        {
            "subject": table["subject"],
            "mean DSC": _formatted(table["mean"], ".2f"),
            **{
                f"{what} DSC": [
                    f"{row[what]:.2f} ({row[f'{what}_method']}, n = {row[f'{what}_n_train']})"
                    for row in table.to_dict("records")
                ]
                for what in ("lowest", "highest")
            },
        }
    ).set_index("subject")
    if len(shown) <= 2 * N_CASES:
        return [table_of("All test subjects, worst first", shown)] if len(shown) else []
    return [
        table_of("Worst cases", shown.head(N_CASES)),
        table_of("Best cases", shown.iloc[::-1].head(N_CASES)),
    ]


def costs(timings: pd.DataFrame) -> list[Table]:
    """Return what a training takes by method and n_train: time and memory."""
    means = cost_table(timings)
    titles = {
        "train_seconds": "Training time of a cell, s",
        "peak_memory_mb": "Peak memory of a cell, MiB",
    }
    methods = ordered_methods(means["method"])
    tables = {name: means.pivot(index="n_train", columns="method", values=name)[methods] for name in titles}
    return [
        _methods_down(titles[name], table.map("{:,.0f}".format, na_action="ignore"))
        for name, table in tables.items()
    ]


def uncertainty(summary: pd.DataFrame) -> Table:
    """Return the summary of ``summarise_uncertainty`` with means and standard deviations in one cell."""
    shown = {"method": summary["method"], "n": summary["n_train"]}
    for name, heading in _UNCERTAINTY.items():
        pairs = zip(summary[name], summary[f"{name}_sd"], strict=True)
        shown[heading] = [
            MISSING if math.isnan(mean) else f"{mean:.3f} ({MISSING if math.isnan(sd) else f'{sd:.3f}'})"
            for mean, sd in pairs
        ]
    shown |= {"draws": summary["n_draws"], "predictions without AUROC": summary["n_without_auroc"]}
    shown["networks without rank correlation"] = summary["n_without_correlation"]
    return table_of("Uncertainty: mean over draws (standard deviation)", pd.DataFrame(shown).set_index("method"))


def units(scores: pd.DataFrame) -> dict[str, str]:
    """Name the units of distances and volumes."""
    return {
        "distance": " and ".join(scores["distance_unit"].unique()),
        "volume": " and ".join(scores["volume_unit"].unique()),
    }


def _summary(scores: pd.DataFrame, metric: str) -> Table:
    text = summary_table(scores, metric)
    title = METRIC_TITLES[metric]
    if metric == "hd95":
        title += f", {units(scores)['distance']}"
    table = _methods_down(title, text)
    means = mean_and_sd(scores, metric).pivot(index="method", columns="n_train", values="mean")
    means = means.loc[text.columns, text.index]
    if metric == "hd95":
        means = -means
    if len(means) > 1:
        is_best = means.eq(means.max(axis="index"), axis="columns").to_numpy()
        table.best.update((row, column + 1) for row, column in zip(*is_best.nonzero(), strict=True))
    return table


def _methods_down(title: str, text: pd.DataFrame) -> Table:
    """Show a table that has a row per n_train and a column per method with a row per method: there may be many."""
    down = text.T.rename_axis(index="method")
    down.columns = [f"n = {n_train}" for n_train in down.columns]
    return table_of(title, down)


def _formatted(numbers: pd.Series, spec: str) -> pd.Series:
    return numbers.map(f"{{:{spec}}}".format, na_action="ignore")


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return MISSING
    if isinstance(cell, float) and not cell.is_integer():
        return f"{cell:.4g}"
    return f"{cell:,.0f}" if isinstance(cell, float) else str(cell)
