"""Nodes over all cells: tables, tests, figures and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from dwp_kedro.evaluation.figures import (
    dsc_against_train_size,
    paired_scores,
    score_distribution,
    segmentation_slices,
)
from dwp_kedro.evaluation.paired_comparison import compare_methods
from dwp_kedro.evaluation.summary import (
    representative_subjects,
    summary_metrics,
    summary_table,
)
from dwp_kedro.evaluation.training_curves import training_curves
from dwp_kedro.evaluation.uncertainty import summarise_uncertainty
from dwp_kedro.evaluation.uncertainty_figures import uncertainty_figure
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import CohortParameters, GridParameters, TargetTrainingParameters
from dwp_kedro.pipelines.target_evaluation.cell import Cell
from dwp_kedro.pipelines.target_evaluation.report_facts import methods_in_words
from dwp_kedro.pipelines.target_evaluation.scoring import RECORDED
from dwp_kedro.pipelines.volumes import Volumes, image_id, label_id


def collect_scores(**scores: pd.DataFrame) -> pd.DataFrame:
    """Put the scores of all cells into one table."""
    return pd.concat(scores.values(), ignore_index=True)


def collect_timings(**metrics: dict[str, float | str]) -> pd.DataFrame:
    """List what each cell's training took, and on what; the arguments are named by cell."""
    rows = []
    for name, values in metrics.items():
        cell = dict(zip(("method", "n_train", "split", "seed"), _cell_of(name), strict=True))
        taken = {key: values[key] for key in ("train_seconds", "train_steps", "peak_memory_mb")}
        rows.append({**cell, **taken, **{key: values.get(key, "not recorded") for key in RECORDED}})
    return pd.DataFrame(rows)


def summarise(
    scores: pd.DataFrame, grid: GridParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Make the paper's tables, mean (standard deviation over splits), the comparison, and plain numbers."""
    tables = [summary_table(scores, metric).reset_index() for metric in ("dsc", "iou", "hd95")]
    return (*tables, compare_methods(scores, grid.reference_method), summary_metrics(scores))


def collect_uncertainty(**tables: pd.DataFrame) -> pd.DataFrame:
    """Put what all cells' predictions say of their own uncertainty into one table."""
    return pd.concat(tables.values(), ignore_index=True)


def summarise_uncertainties(
    uncertainty: pd.DataFrame, grid: GridParameters, methods: Mapping[str, Any], training: TargetTrainingParameters
) -> tuple[pd.DataFrame, go.Figure]:
    """Measure and draw whether the networks' certainty can be trusted."""
    figure = uncertainty_figure(uncertainty, methods_in_words(grid, methods, training))
    return summarise_uncertainty(uncertainty), figure


def draw_scores(scores: pd.DataFrame, grid: GridParameters) -> tuple[go.Figure, go.Figure, go.Figure]:
    """Draw DSC against train size (the paper's Fig. 4), the spread over subjects, and pairs of methods."""
    return (
        dsc_against_train_size(scores),
        score_distribution(scores),
        paired_scores(scores, grid.reference_method),
    )


def draw_curves(**histories: pd.DataFrame) -> go.Figure:
    """Draw the training curves of all cells; the arguments are named by cell."""
    return training_curves({_cell_of(name): history for name, history in histories.items()})


def draw_segmentations(
    scores: pd.DataFrame, volumes: Volumes, cohort: CohortParameters, cell: Cell, **predictions: Volumes
) -> tuple[Figure, Figure]:
    """Draw the best, the median and the worst subject with every method's contour (the paper's Fig. 6).

    ``cell`` says which train size, split and seed is shown; ``predictions`` are named ``predictions_{method}``.
    The figure comes twice: for the catalog, which keeps pictures and cannot give figures back, and for the report.
    """
    of_cell = scores.query(f"n_train == {cell.n_train} and split == {cell.split} and seed == {cell.seed}")
    subjects = representative_subjects(of_cell)
    shown = list(subjects.values())
    some_volume = volumes[label_id(shown[0])]()
    figure = segmentation_slices(
        of_cell,
        {name: _array_of(volumes[image_id(name, 0)]) for name in shown},
        {name: _array_of(volumes[label_id(name)]) for name in shown},
        {
            method: {name: _array_of(loaders[name]) for name in shown}
            for method, loaders in _by_method(predictions).items()
        },
        subjects,
        None if cohort.spacing == "unknown" else some_volume.spacing,
    )
    return figure, figure


def _cell_of(name: str) -> tuple[str, int, int, int]:
    """Return method, n_train, split and seed of an argument's name."""
    method, n_train, split, seed = name.rsplit("__", 3)
    return method, int(n_train), int(split), int(seed)


def _by_method(predictions: Mapping[str, Volumes]) -> dict[str, Volumes]:
    return {name.removeprefix("predictions_"): loaders for name, loaders in predictions.items()}


def _array_of(load: Callable[[], Volume] | Volume) -> Callable[[], np.ndarray]:
    return lambda: (load() if callable(load) else load).array
