"""From scores of subjects to what is reported: means over splits, extreme cases, cost.

Every mean is taken in the same order: classes of a subject, subjects of a test set, seeds of a split, splits.
A standard deviation is always that over splits, with n − 1 in the denominator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

METHODS_OF_THE_PAPER = ("ri", "pr", "prf", "dwp")
METRICS = ("dsc", "iou", "hd95", "own_grid_dsc")
_OF_CELL = ("", "_method", "_n_train")


def ordered_methods(methods: Iterable[str]) -> list[str]:
    """Return the methods without repetition: ri, pr, prf, dwp, then the others as they come."""
    present = list(dict.fromkeys(methods))
    known = [method for method in METHODS_OF_THE_PAPER if method in present]
    return known + [method for method in present if method not in known]


def split_means(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the test-set mean of ``metric`` per split: columns method, n_train, split and ``metric``.

    The seeds of a split are averaged, and so are the classes.
    """
    per_seed = scores.groupby(["method", "n_train", "split", "seed"], sort=False)[metric].mean()
    return per_seed.groupby(level=["method", "n_train", "split"], sort=False).mean().reset_index()


def mean_and_sd(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean and standard deviation over splits: columns method, n_train, mean, sd, n_splits.

    ``sd`` is NaN where there is one split only.
    """
    groups = split_means(scores, metric).groupby(["method", "n_train"], sort=False)[metric]
    return groups.agg(mean="mean", sd="std", n_splits="count").reset_index()


def summary_table(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the paper's table of ``metric``: a row per n_train, a column per method, cells "0.64 (0.05)".

    A cell is the mean over splits of the test-set mean and, in brackets, its standard deviation over splits
    (n − 1); seeds of a split and classes are averaged before. With one split the standard deviation is "–",
    and so is a cell that was not run. Distances have one decimal, everything else two.
    """
    digits = 1 if metric == "hd95" else 2
    table = mean_and_sd(scores, metric)
    spreads = ["–" if math.isnan(sd) else f"{sd:.{digits}f}" for sd in table["sd"]]
    table["cell"] = [f"{mean:.{digits}f} ({sd})" for mean, sd in zip(table["mean"], spreads, strict=True)]
    return _methods_across(table, "cell").fillna("–")


def summary_tables_by_class(scores: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """Return :func:`summary_table` of each class on its own, by the class's name."""
    return {str(name): summary_table(rows, metric) for name, rows in scores.groupby("class", sort=False)}


def summary_metrics(scores: pd.DataFrame) -> dict[str, float]:
    """Return every mean and standard deviation by name: ``dwp_n5_dsc_mean``, ``dwp_n5_dsc_sd`` and so on.

    For dsc, iou, hd95 and own_grid_dsc. A standard deviation that does not exist (one split) is left out.
    """
    metrics = {}
    for metric in METRICS:
        for row in mean_and_sd(scores, metric).itertuples():
            metrics[f"{row.method}_n{row.n_train}_{metric}_mean"] = float(row.mean)
            if not math.isnan(row.sd):
                metrics[f"{row.method}_n{row.n_train}_{metric}_sd"] = float(row.sd)
    return metrics


def cell_metrics(scores: pd.DataFrame, training: Mapping[str, float]) -> dict[str, float]:
    """Return a grid cell's final metrics: ``test_{dsc,iou,hd95,own_grid_dsc}_mean`` and its training's.

    ``scores`` holds one cell; ``training`` its figures such as train_seconds, which are passed on.
    """
    return {**training, **{f"test_{metric}_mean": float(scores[metric].mean()) for metric in METRICS}}


def subject_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean DSC of each subject, worst first: a column per method, then ``mean`` over the methods.

    Averaged over everything else: classes, splits, seeds and n_train. Subjects on which not every method was
    tested are left out, because their means would not compare.
    """
    table = scores.groupby(["subject", "method"])["dsc"].mean().unstack("method")
    table = table[ordered_methods(scores["method"])].dropna()
    table["mean"] = table.mean(axis="columns")
    return table.sort_values("mean", kind="stable").rename_axis(columns=None)


def case_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return what each subject scored, worst first, and which cells did worst and best on it.

    The columns are subject; mean, its DSC averaged over everything else; lowest, lowest_method, lowest_n_train and
    the same of the highest: of its mean DSC by one method at one n_train. The subjects are those of
    :func:`subject_table`.
    """
    by_cell = scores.groupby(["subject", "method", "n_train"])["dsc"].mean()
    rows = []
    for subject, mean in subject_table(scores)["mean"].items():
        cells = by_cell.loc[subject]
        row: dict[str, object] = {"subject": subject, "mean": mean}
        for what, cell in (("lowest", cells.idxmin()), ("highest", cells.idxmax())):
            row |= {what: cells[cell], f"{what}_method": cell[0], f"{what}_n_train": cell[1]}
        rows.append(row)
    columns = ["subject", "mean", *(f"{what}{part}" for what in ("lowest", "highest") for part in _OF_CELL)]
    return pd.DataFrame(rows, columns=columns)


def representative_subjects(scores: pd.DataFrame) -> dict[str, str]:
    """Return the best, median and worst subject by mean DSC over methods; of fewer than three, fewer."""
    worst_first = list(subject_table(scores).index)
    if not worst_first:
        return {}
    places = {"best": -1, "worst": 0, "median": (len(worst_first) - 1) // 2}
    chosen: dict[str, str] = {}
    for what, place in places.items():
        if worst_first[place] not in chosen.values():
            chosen[what] = worst_first[place]
    return {what: chosen[what] for what in ("best", "median", "worst") if what in chosen}


def empty_predictions(scores: pd.DataFrame) -> pd.DataFrame:
    """Return how many predictions left out a class that is there: a row per n_train, a column per method."""
    missed = scores.assign(missed=(scores["volume_predicted"] == 0) & (scores["volume_true"] > 0))
    counts = missed.groupby(["method", "n_train"], sort=False)["missed"]
    table = counts.agg(lambda column: f"{column.sum()} of {len(column)}").rename("cell").reset_index()
    return _methods_across(table, "cell").fillna("–")


def cost_table(timings: pd.DataFrame) -> pd.DataFrame:
    """Return what a cell costs, a row per n_train and method: the means over its cells.

    ``timings`` has a row per cell with the columns method, n_train, train_seconds (s) and peak_memory_mb (MiB).
    The columns are n_train, method, n_cells, train_seconds and peak_memory_mb.
    """
    ordered = pd.Categorical(timings["method"], ordered_methods(timings["method"]))
    groups = timings.assign(method=ordered).groupby(["n_train", "method"], observed=True)
    means = groups.agg(
        n_cells=("train_seconds", "size"),
        train_seconds=("train_seconds", "mean"),
        peak_memory_mb=("peak_memory_mb", "mean"),
    )
    return means.reset_index().astype({"method": str})


def _methods_across(table: pd.DataFrame, values: str) -> pd.DataFrame:
    pivoted = table.pivot(index="n_train", columns="method", values=values).sort_index()
    return pivoted[ordered_methods(table["method"])].rename_axis(columns=None)
