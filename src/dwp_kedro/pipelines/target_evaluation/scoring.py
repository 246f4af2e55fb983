"""Nodes of one grid cell after its training: predict, score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from dwp_kedro.cohorts.splits import scored_subjects
from dwp_kedro.cohorts.subjects import own_grid, own_labels
from dwp_kedro.evaluation.scores import score_cell
from dwp_kedro.evaluation.summary import cell_metrics
from dwp_kedro.evaluation.uncertainty import uncertainty_rows, uncertainty_table
from dwp_kedro.imaging.preprocessing import to_own_grid
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.lineage.declare import depends_on
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    GridParameters,
    InputParameters,
    PredictionParameters,
)
from dwp_kedro.pipelines.architectures import rebuild
from dwp_kedro.pipelines.core import compute_settings
from dwp_kedro.pipelines.inference import make_inferer
from dwp_kedro.pipelines.target_evaluation.cell import Cell
from dwp_kedro.pipelines.volumes import Volumes, image_id, label_id, load_image
from dwp_kedro.training.prediction import predict

RECORDED = ("device", "precision")
"""What a cell's metrics hold in words."""


def _other_rows(splits: pd.DataFrame, cell: Cell) -> list[list[str]]:
    own = splits[(splits["split"] == cell.split) & (splits["role"] != "train")]
    return own.sort_values(["role", "rank"])[["role", "subject"]].values.tolist()


@depends_on(splits=_other_rows, grid=lambda grid: grid.scored_on)
def predict_cell(
    checkpoint: Checkpoint,
    volumes: Volumes,
    splits: pd.DataFrame,
    manifest: pd.DataFrame,
    cohort: CohortParameters,
    grid: GridParameters,
    prediction: PredictionParameters,
    compute: ComputeParameters,
    cell: Cell,
) -> tuple[dict[str, Volume], dict[str, Volume], pd.DataFrame, pd.DataFrame]:
    """Segment the split's test subjects, on the network's grid and on each scan's own.

    How uncertain the predictions are is measured here, where the probabilities still are. The table of the
    subjects is saved after the predictions, and so says that they are whole.
    """
    names = scored_subjects(splits, cell.split, grid.scored_on)
    rows = manifest.set_index("subject", drop=False)
    networks, input_ = rebuild(checkpoint), InputParameters.model_validate(checkpoint.metadata["input"])
    predictions = predict(
        networks,
        lambda index: load_image(volumes, names[index], input_.channels),
        len(names),
        task=f"predicting {cell.label}",
        compute=compute_settings(compute),
        n_samples=prediction.n_samples,
        seed=cell.draw_seed,
        infer=make_inferer(prediction.window, input_.trained_on, networks),
    )
    on_grid, on_own_grid, uncertainties = {}, {}, []
    for name, predicted in zip(names, predictions, strict=True):
        affine = volumes[image_id(name, 0)]().affine
        label = predicted.probability.argmax(0).to(torch.uint8).numpy()
        on_grid[name] = Volume.from_array(label, affine)
        uncertainties.append(uncertainty_rows(name, predicted, volumes[label_id(name)]().array))
        own_shape, own_affine = own_grid(rows.loc[name].to_dict(), cohort)
        own = to_own_grid(predicted.probability.numpy(), affine, own_shape, own_affine)
        on_own_grid[name] = Volume.from_array(own, own_affine)
    return on_grid, on_own_grid, uncertainty_table(cell, uncertainties), pd.DataFrame({"subject": names})


def score_predictions(
    predictions: Volumes,
    own_grid_predictions: Volumes,
    predicted: pd.DataFrame,
    volumes: Volumes,
    manifest: pd.DataFrame,
    cohort: CohortParameters,
    checkpoint: Checkpoint,
    cell: Cell,
) -> tuple[pd.DataFrame, dict[str, float | str]]:
    """Score every predicted subject: overlap, distance, volume; and overlap on the scan's own grid.

    With the cell's metrics goes what it was trained on and in.
    """
    names = predicted["subject"].tolist()
    rows = manifest.set_index("subject", drop=False)

    def array_of(load: Callable[[], Volume]) -> Callable[[], np.ndarray]:
        return lambda: load().array

    def spacing_of(name: str) -> Callable[[], tuple[float, float, float]]:
        return lambda: volumes[label_id(name)]().spacing

    def own_labels_of(name: str) -> Callable[[], np.ndarray]:
        return lambda: own_labels(rows.loc[name].to_dict(), cohort)

    scores = score_cell(
        method=cell.method,
        n_train=cell.n_train,
        split=cell.split,
        seed=cell.seed,
        predictions={name: array_of(predictions[name]) for name in names},
        truths={name: array_of(volumes[label_id(name)]) for name in names},
        own_grid_predictions={name: array_of(own_grid_predictions[name]) for name in names},
        own_grid_truths={name: own_labels_of(name) for name in names},
        spacings=None if cohort.spacing == "unknown" else {name: spacing_of(name) for name in names},
        class_names=cohort.class_names,
    )
    # Checkpoints of the first versions do not say it.
    recorded = {name: checkpoint.metadata[name] for name in RECORDED if name in checkpoint.metadata}
    return scores, {**cell_metrics(scores, checkpoint.metadata["metrics"]), **recorded}
