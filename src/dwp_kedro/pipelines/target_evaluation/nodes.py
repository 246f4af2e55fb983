"""Nodes over all cells: tables, tests, figures and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from dwp_kedro.bayes.network_prior import unpack_prior
from dwp_kedro.evaluation.figures import (
    dsc_against_train_size,
    score_distribution,
    segmentation_slices,
)
from dwp_kedro.evaluation.paired_comparison import compare_methods
from dwp_kedro.evaluation.report import build_report
from dwp_kedro.evaluation.summary import (
    representative_subjects,
    summary_metrics,
    summary_table,
)
from dwp_kedro.evaluation.training_curves import training_curves
from dwp_kedro.evaluation.uncertainty import summarise_uncertainty
from dwp_kedro.evaluation.uncertainty_figures import uncertainty_figure
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import CohortParameters, GridParameters, TargetTrainingParameters
from dwp_kedro.pipelines.core import library_versions
from dwp_kedro.pipelines.target_evaluation.cell import Cell
from dwp_kedro.pipelines.volumes import Volumes, image_id, label_id


def collect_scores(**scores: pd.DataFrame) -> pd.DataFrame:
    """Put the scores of all cells into one table."""
    return pd.concat(scores.values(), ignore_index=True)


def collect_timings(**metrics: dict[str, float]) -> pd.DataFrame:
    """List what each cell's training took; the arguments are named by cell."""
    rows = []
    for name, values in metrics.items():
        cell = dict(zip(("method", "n_train", "split", "seed"), _cell_of(name), strict=True))
        rows.append({**cell, **{key: values[key] for key in ("train_seconds", "train_steps", "peak_memory_mb")}})
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


def summarise_uncertainties(uncertainty: pd.DataFrame) -> tuple[pd.DataFrame, go.Figure]:
    """Measure and draw whether the networks' certainty can be trusted."""
    return summarise_uncertainty(uncertainty), uncertainty_figure(uncertainty)


def draw_scores(scores: pd.DataFrame) -> tuple[go.Figure, go.Figure]:
    """Draw DSC against train size (the paper's Fig. 4) and the spread over subjects."""
    return dsc_against_train_size(scores), score_distribution(scores)


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


def write_report(
    scores: pd.DataFrame,
    timings: pd.DataFrame,
    size_figure: go.Figure,
    distribution_figure: go.Figure,
    curves_figure: go.Figure,
    segmentation_figure: Figure,
    trust_figure: go.Figure,
    uncertainty_summary: pd.DataFrame,
    manifest: pd.DataFrame,
    cohort: CohortParameters,
    grid: GridParameters,
    training: TargetTrainingParameters,
    environment: str,
    command: str,
    prior: Checkpoint | None = None,
) -> str:
    """Write everything into one HTML page that opens from disk."""
    card = {} if prior is None else unpack_prior(prior).card
    source = card.get(
        "source_cohort", {"name": "nothing", "description": "no method takes anything from a source"}
    )
    figures_of_groups = {name: group["figures"] for name, group in card.get("groups", {}).items()}
    facts = {
        "Source": {"cohort": source["name"], "description": source["description"]},
        "Target": {
            "cohort": cohort.name,
            "description": cohort.description,
            "subjects": str(len(manifest)),
            "network grid": "×".join(map(str, cohort.preprocessing.grid)),
            "voxel size": "unknown: distances and volumes are in voxels"
            if cohort.spacing == "unknown"
            else "from the scans, in mm",
        },
        "Experiment": {
            "environment": environment,
            "methods": ", ".join(grid.methods),
            "training volumes": ", ".join(map(str, grid.n_train)),
            **_design(grid),
            "augmentation": "none" if training.augmentation is None else "on, the same for all methods",
            "temperature": f"{training.temperature:g}",
            "estimator of the data term": training.estimator.replace("_", " "),
            "share of kernels per step": f"{training.kernel_fraction:g}",
        },
    }
    further_tables = {
        "Uncertainty, mean over draws (calibration error: 0 is best; area under the ROC: 1; rank correlation with "
        "the DSC: −1)": uncertainty_summary
    }
    if figures_of_groups:
        further_tables["Priors on held-out networks, nats per kernel"] = pd.DataFrame(figures_of_groups).T
    return build_report(
        title=f"Deep weight prior transfer: {source['name']} → {cohort.name}",
        scores=scores,
        reference=grid.reference_method,
        facts=facts,
        command=command,
        figures={
            "Test DSC by number of training volumes; bars: 95 % interval over draws, points: draws": size_figure,
            "Test DSC of every subject, averaged over draws": distribution_figure,
            "Best, median and worst subject": segmentation_figure,
            "Can the network's own certainty be trusted?": trust_figure,
            "Training curves; bold: mean over draws, thin: single cells": curves_figure,
        },
        timings=timings,
        versions=library_versions(),
        notice=_notice(cohort, grid),
        further_tables=further_tables,
    )


def _cell_of(name: str) -> tuple[str, int, int, int]:
    """Return method, n_train, split and seed of an argument's name."""
    method, n_train, split, seed = name.rsplit("__", 3)
    return method, int(n_train), int(split), int(seed)


def _design(grid: GridParameters) -> dict[str, str]:
    """Say in words how often is trained and on whom is tested."""
    sizes_by_draws: dict[int, list[int]] = {}
    for n_train in grid.n_train:
        sizes_by_draws.setdefault(grid.splits_of(n_train), []).append(n_train)
    draws = [
        str(count) if len(sizes_by_draws) == 1 else f"{count} at n = {', '.join(map(str, sizes))}"
        for count, sizes in sizes_by_draws.items()
    ]
    if grid.scored_on == "set_aside":
        tested = f"{len(set(grid.set_aside))} set aside for choosing recipes"
    elif isinstance(grid.test_set, list):
        tested = f"{len(set(grid.test_set))}, the same in all draws, fixed by name"
    else:
        tested = f"{grid.n_test}, {'the same in all draws' if grid.test_set == 'fixed' else 'new in every draw'}"
    return {
        "draws (splits)": "; ".join(draws),
        "seeds of a draw": "its own" if grid.seeds == "per_split" else ", ".join(map(str, grid.seeds)),
        "test subjects": tested,
    }


def _notice(cohort: CohortParameters, grid: GridParameters) -> str | None:
    """Return what must be said before any result, if anything must."""
    if cohort.reader.layout == "phantom":
        return "A demonstration on made-up scans. No figure on this page is evidence for anything."
    if grid.scored_on == "set_aside":
        return (
            "Scored on the subjects that recipes are chosen on, not on the test set. What was chosen by these "
            "figures looks better in them than it is."
        )
    return None


def _by_method(predictions: Mapping[str, Volumes]) -> dict[str, Volumes]:
    return {name.removeprefix("predictions_"): loaders for name, loaders in predictions.items()}


def _array_of(load: Callable[[], Volume] | Volume) -> Callable[[], np.ndarray]:
    return lambda: (load() if callable(load) else load).array
