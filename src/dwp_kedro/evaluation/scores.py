"""Overlap, distance and volume of one predicted label map, and the scores table of a grid cell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import pandas as pd
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

from dwp_kedro.progress import track

# MONAI 1.6 warns on every run of an argument that it passes to itself.
warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)

SCORE_COLUMNS = [
    "method",
    "n_train",
    "split",
    "seed",
    "subject",
    "class",
    "dsc",
    "iou",
    "hd95",
    "volume_true",
    "volume_predicted",
    "distance_unit",
    "volume_unit",
    "own_grid_dsc",
]

Spacing: TypeAlias = tuple[float, float, float]
Value = TypeVar("Value")
Lazy: TypeAlias = Value | Callable[[], Value]


def score_subject(
    prediction: np.ndarray, truth: np.ndarray, spacing: Spacing | None, class_names: Sequence[str]
) -> list[dict[str, float | str]]:
    """Score one label map against the truth on the same grid; one row per foreground class.

    Both maps are (x, y, z) integers: 0 background, k the k-th of ``class_names``. ``spacing`` is the voxel
    size along the array's axes, mm; None means that it is unknown, and then distances and volumes are in
    voxels (``distance_unit`` and ``volume_unit`` are "voxel" instead of "mm" and "ml").

    ``dsc`` = 2TP/(2TP+FN+FP) and ``iou`` = TP/(TP+FN+FP) are 1 when a class is empty in both maps. ``hd95``
    is the larger of the two directed 95th percentiles of the distances from surface voxel to surface voxel.
    It is 0 when both maps are empty, and the grid's diagonal, √Σ(side·spacing)², when only one is: no
    prediction that finds anything can be further off.

    Raises ValueError when the shapes differ or a map holds a value that is no class.
    """
    masks_predicted, masks_true = _class_masks(prediction, truth, len(class_names))
    dsc = compute_dice(masks_predicted, masks_true, ignore_empty=False)[0].tolist()
    iou = compute_iou(masks_predicted, masks_true, ignore_empty=False)[0].tolist()
    counts_predicted = masks_predicted[0].sum(dim=(1, 2, 3)).tolist()
    counts_true = masks_true[0].sum(dim=(1, 2, 3)).tolist()
    millilitres = 1.0 if spacing is None else math.prod(spacing) / 1000.0

    rows: list[dict[str, float | str]] = []
    for index, name in enumerate(class_names):
        rows.append(
            {
                "class": name,
                "dsc": dsc[index],
                "iou": iou[index],
                "hd95": _hd95(masks_predicted[:, [index]], masks_true[:, [index]], spacing),
                "volume_true": counts_true[index] * millilitres,
                "volume_predicted": counts_predicted[index] * millilitres,
                "distance_unit": "voxel" if spacing is None else "mm",
                "volume_unit": "voxel" if spacing is None else "ml",
            }
        )
    return rows


def own_grid_dsc(prediction: np.ndarray, truth: np.ndarray, n_classes: int) -> list[float]:
    """Return the DSC of each of ``n_classes`` foreground classes on the scan's own grid.

    Takes the prediction brought back to the scan's grid and the scan's own labels, mapped to classes, as
    (x, y, z) integers. A class that is empty in both scores 1. Raises ValueError like :func:`score_subject`.
    """
    return compute_dice(*_class_masks(prediction, truth, n_classes), ignore_empty=False)[0].tolist()


def score_cell(
    *,
    method: str,
    n_train: int,
    split: int,
    seed: int,
    predictions: Mapping[str, Lazy[np.ndarray]],
    truths: Mapping[str, Lazy[np.ndarray]],
    own_grid_predictions: Mapping[str, Lazy[np.ndarray]],
    own_grid_truths: Mapping[str, Lazy[np.ndarray]],
    spacings: Mapping[str, Lazy[Spacing]] | None,
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Score every predicted subject of one grid cell: a row per subject and class, columns ``SCORE_COLUMNS``.

    The mappings go from subject to a value or to a function that returns it, which is called when that
    subject's turn comes, so that one subject at a time is in memory. ``spacings`` None means that the
    cohort's voxel size is unknown. Subjects of the other mappings that have no prediction are left alone.

    Raises ValueError, naming the subject, when something of it is missing or does not fit.
    """
    needed = {"truth": truths, "own-grid prediction": own_grid_predictions, "own-grid truth": own_grid_truths}
    if spacings is not None:
        needed["spacing"] = spacings  # type: ignore[assignment]
    for what, mapping in needed.items():
        if missing := sorted(set(predictions) - set(mapping)):
            raise ValueError(f"no {what} for the predicted subjects {', '.join(missing)}")

    rows = []
    for subject in track(list(predictions), f"scoring {method}, n = {n_train}, split {split}, seed {seed}"):
        try:
            classes = score_subject(
                value_of(predictions[subject]),
                value_of(truths[subject]),
                None if spacings is None else value_of(spacings[subject]),
                class_names,
            )
            on_own_grid = own_grid_dsc(
                value_of(own_grid_predictions[subject]), value_of(own_grid_truths[subject]), len(class_names)
            )
        except ValueError as error:
            raise ValueError(f"subject {subject}: {error}") from error
        cell = {"method": method, "n_train": n_train, "split": split, "seed": seed, "subject": subject}
        rows += [{**cell, **row, "own_grid_dsc": dsc} for row, dsc in zip(classes, on_own_grid, strict=True)]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def value_of(item: Lazy[Value]) -> Value:
    """Return a value that is given as itself or as a function that loads it."""
    return item() if callable(item) else item


def _class_masks(prediction: np.ndarray, truth: np.ndarray, n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both maps as boolean (1, n_classes, x, y, z), without a channel for the background."""
    if prediction.shape != truth.shape:
        raise ValueError(f"the prediction's grid is {prediction.shape}, the truth's {truth.shape}")
    masks = []
    for what, labels in (("prediction", prediction), ("truth", truth)):
        # Voxels are counted and not listed with numpy.unique, which sorts them all.
        one_per_class = [labels == value for value in range(1, n_classes + 1)]
        counted = sum(np.count_nonzero(mask) for mask in one_per_class)
        if counted != np.count_nonzero(labels):
            raise ValueError(f"the {what} holds values other than 0 to {n_classes}")
        masks.append(torch.from_numpy(np.stack(one_per_class)[None]))
    return masks[0], masks[1]


def _hd95(mask_predicted: torch.Tensor, mask_true: torch.Tensor, spacing: Spacing | None) -> float:
    any_predicted, any_true = bool(mask_predicted.any()), bool(mask_true.any())
    if not any_predicted and not any_true:
        return 0.0
    if not any_predicted or not any_true:
        return math.hypot(*np.multiply(mask_true.shape[2:], spacing or (1.0, 1.0, 1.0)))
    return compute_hausdorff_distance(
        mask_predicted, mask_true, include_background=True, percentile=95, spacing=spacing
    ).item()
