"""Whether a network's uncertainty means something: calibration, detection of errors, foretelling of the DSC.

All is measured on the network's grid and, voxel by voxel, in a *region*: true and predicted foreground, dilated
by :data:`REGION_MARGIN` voxels. Beyond it lies background that every network is sure of and right about; counted
in, it would make all of them look perfect. Since the region takes in the truth, it serves evaluation only; what
is to foretell the DSC (``uncertainty``) sees the prediction alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation
from scipy.stats import mannwhitneyu, spearmanr
from torch import Tensor

from dwp_kedro.evaluation.scores import own_grid_dsc

REGION_MARGIN = 3  # voxels, as city-block distance
N_BINS = 10
CELL_COLUMNS = ["method", "n_train", "split", "seed"]
BIN_COUNTS = ("n_voxels", "sum_probability", "n_foreground")
UNCERTAINTY_COLUMNS = [
    *CELL_COLUMNS,
    "subject",
    "dsc",
    "uncertainty",
    "auroc_entropy",
    "auroc_mutual_information",
    "auroc_undefined",
    *(f"{count}_bin{number}" for number in range(N_BINS) for count in BIN_COUNTS),
]
SUMMARISED = ["ece", "auroc_entropy", "auroc_mutual_information", "rank_correlation"]
COUNTED = ["n_without_auroc", "n_without_correlation"]


class PredictedVolume(Protocol):
    """What networks say of one volume: class probabilities (classes, x, y, z), uncertainties (x, y, z) in nats."""

    @property
    def probability(self) -> Tensor:
        """Mean class probabilities; class 0 is the background."""

    @property
    def entropy(self) -> Tensor:
        """Entropy of the mean probabilities."""

    @property
    def mutual_information(self) -> Tensor:
        """Mutual information of label and weights; zero everywhere where there was one pass."""


class GridCell(Protocol):
    """Whose network it is."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def n_train(self) -> int:
        """Number of training volumes."""

    @property
    def split(self) -> int:
        """Draw of the training volumes."""

    @property
    def seed(self) -> int:
        """Seed of the training."""


def uncertainty_rows(subject: str, prediction: PredictedVolume, truth: np.ndarray) -> dict[str, float | int | str]:
    """Measure the uncertainty of one subject's prediction against its truth (x, y, z), 0 for background.

    Returns one row of the table, without the columns that name the cell:

    - ``dsc``: mean over the foreground classes of the DSC of the likeliest label; a class empty in both is 1.
    - ``uncertainty`` of the whole volume: see :func:`volume_uncertainty`.
    - ``auroc_entropy``, ``auroc_mutual_information``: area under the ROC of the voxel's entropy (mutual
      information) as a sign that its label is wrong, over the region; NaN where undefined, and then
      ``auroc_undefined`` says why. The second is NaN also where there is no mutual information at all (one pass).
    - ``n_voxels_bin0`` and so on: the region's voxels whose foreground probability (any class) lies in that tenth
      of [0, 1], the sum of those probabilities, and how many of the voxels are truly foreground.

    Raises:
        ValueError: if the grids differ or the truth holds a value that is no class; the message names the subject.
    """
    probability = prediction.probability.numpy()
    label = probability.argmax(0)
    try:
        dsc = own_grid_dsc(label, truth, len(probability) - 1)
    except ValueError as error:
        raise ValueError(f"subject {subject}: {error}") from error
    region = binary_dilation((label > 0) | (truth > 0), iterations=REGION_MARGIN)
    is_wrong = (label != truth)[region]
    row: dict[str, float | int | str] = {
        "subject": subject,
        "dsc": float(np.mean(dsc)),
        "uncertainty": volume_uncertainty(probability),
        "auroc_entropy": error_auroc(prediction.entropy.numpy()[region], is_wrong),
        "auroc_mutual_information": float("nan"),
        "auroc_undefined": _why_undefined(is_wrong),
    }
    if prediction.mutual_information.any():
        row["auroc_mutual_information"] = error_auroc(prediction.mutual_information.numpy()[region], is_wrong)
    return row | _bin_counts(probability[1:].sum(0)[region], truth[region] > 0)


def uncertainty_table(cell: GridCell, rows: Iterable[Mapping[str, float | int | str]]) -> pd.DataFrame:
    """Return the subjects' rows of one cell as a table with the columns :data:`UNCERTAINTY_COLUMNS`."""
    named = {"method": cell.method, "n_train": cell.n_train, "split": cell.split, "seed": cell.seed}
    return pd.DataFrame([{**named, **row} for row in rows], columns=UNCERTAINTY_COLUMNS)


def volume_uncertainty(probability: np.ndarray) -> float:
    """Return 1 minus the DSC that the probabilities (classes, x, y, z) themselves lead one to expect.

    That is Soft Dice Confidence (Borges et al. 2024, arXiv 2402.10665) of the likeliest label, mean over the
    foreground classes k: 2·Σ p_k over the voxels labelled k, over (Σ p_k over all voxels + their number). A class
    that is labelled nowhere is as uncertain as can be (1), unless its probability is 0 everywhere (0): a network
    that finds nothing has to be looked after.
    """
    label = probability.argmax(0)
    expected = []
    for number in range(1, len(probability)):
        of_class, labelled = probability[number].astype(np.float64), label == number
        total = of_class.sum() + labelled.sum()
        expected.append(2 * of_class[labelled].sum() / total if total else 1.0)
    return 1 - float(np.mean(expected))


def error_auroc(uncertainty: np.ndarray, is_wrong: np.ndarray) -> float:
    """Area under the ROC of ``uncertainty`` as a sign of ``is_wrong``, both (n,); NaN unless both kinds are there.

    It is the chance that of a wrong and a right voxel the wrong one is the more uncertain, ties counting half:
    Mann and Whitney's U over the number of such pairs.
    """
    wrong, right = uncertainty[is_wrong], uncertainty[~is_wrong]
    if not len(wrong) or not len(right):
        return float("nan")
    return float(mannwhitneyu(wrong, right, method="asymptotic").statistic / (len(wrong) * len(right)))


def pooled_bins(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum the bins of all ``rows``: index 0 to 9, columns n_voxels, sum_probability, n_foreground."""
    return pd.DataFrame(
        {count: [rows[f"{count}_bin{number}"].sum() for number in range(N_BINS)] for count in BIN_COUNTS}
    )


def expected_calibration_error(bins: pd.DataFrame) -> float:
    """Σ over bins of (share of voxels)·|share truly foreground − mean probability| (Naeini et al. 2015).

    NaN where there is no voxel.
    """
    n_voxels = bins["n_voxels"].sum()
    if n_voxels == 0:
        return float("nan")
    return float((bins["n_foreground"] - bins["sum_probability"]).abs().sum() / n_voxels)


def rank_correlation(rows: pd.DataFrame) -> float:
    """Spearman's rank correlation of ``uncertainty`` and ``dsc`` over subjects; −1 is the best.

    NaN where one of the two is the same for all.
    """
    if rows["uncertainty"].nunique() < 2 or rows["dsc"].nunique() < 2:
        return float("nan")
    return float(spearmanr(rows["uncertainty"], rows["dsc"]).statistic)


def summarise_uncertainty(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise the table of all cells: one row per method and n_train.

    Every figure is that of one network on its test set (voxels of all subjects pooled for ``ece``; mean over
    subjects for the areas, those without one left out), then averaged over the seeds of a draw, then over draws;
    ``…_sd`` is its standard deviation over draws (n − 1), NaN with one. ``n_draws`` counts the draws,
    ``n_without_auroc`` the predictions that have no area, ``n_without_correlation`` the networks without a rank
    correlation, which are left out of its mean.
    """
    networks = [
        {
            **dict(zip(CELL_COLUMNS, cell, strict=True)),
            "ece": expected_calibration_error(pooled_bins(of_cell)),
            "auroc_entropy": of_cell["auroc_entropy"].mean(),
            "auroc_mutual_information": of_cell["auroc_mutual_information"].mean(),
            "rank_correlation": (correlation := rank_correlation(of_cell)),
            "n_without_correlation": int(np.isnan(correlation)),
            "n_without_auroc": of_cell["auroc_entropy"].isna().sum(),
        }
        for cell, of_cell in rows.groupby(CELL_COLUMNS, sort=False)
    ]
    by_draw = pd.DataFrame(networks).groupby(["method", "n_train", "split"], sort=False)
    draws = by_draw[SUMMARISED].mean().join(by_draw[COUNTED].sum())
    groups = draws.groupby(["method", "n_train"], sort=False)
    columns = {}
    for name in SUMMARISED:
        columns[name], columns[f"{name}_sd"] = groups[name].mean(), groups[name].std()
    columns |= {"n_draws": groups.size(), **{name: groups[name].sum() for name in COUNTED}}
    return pd.DataFrame(columns).reset_index()


def _why_undefined(is_wrong: np.ndarray) -> str:
    if not len(is_wrong):
        return "no foreground"
    if not is_wrong.any():
        return "no error"
    return "nothing but errors" if is_wrong.all() else ""


def _bin_counts(probability: np.ndarray, is_foreground: np.ndarray) -> dict[str, float | int]:
    """Count voxels by tenth of their probability; 1 belongs to the last."""
    numbers = np.minimum((probability * N_BINS).astype(int), N_BINS - 1)
    n_voxels = np.bincount(numbers, minlength=N_BINS)
    sums = np.bincount(numbers, probability, N_BINS)
    n_foreground = np.bincount(numbers[is_foreground], minlength=N_BINS)
    counts: dict[str, float | int] = {}
    for number in range(N_BINS):
        counts[f"n_voxels_bin{number}"] = int(n_voxels[number])
        counts[f"sum_probability_bin{number}"] = float(sums[number])
        counts[f"n_foreground_bin{number}"] = int(n_foreground[number])
    return counts
