from __future__ import annotations

import io
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dwp_kedro.evaluation import uncertainty
from dwp_kedro.evaluation.uncertainty import N_BINS, uncertainty_rows
from dwp_kedro.training.prediction import Prediction


def prediction_of(foreground: np.ndarray, information: float = 0.0) -> Prediction:
    """Two classes; the entropy is that of the probability."""
    p = torch.from_numpy(foreground.astype(np.float32))
    probability = torch.stack([1 - p, p])
    return Prediction(probability, torch.special.entr(probability).sum(0), information * p)


def one_voxel(value: float, others: float) -> np.ndarray:
    foreground = np.full((9, 9, 9), others, np.float32)
    foreground[4, 4, 4] = value
    return foreground


def counts(row: dict, name: str) -> list[float]:
    return [row[f"{name}_bin{number}"] for number in range(N_BINS)]


def table_of(cells: list[tuple[str, int, int, int, list[dict]]]) -> pd.DataFrame:
    tables = [
        uncertainty.uncertainty_table(SimpleNamespace(method=m, n_train=n, split=split, seed=seed), rows)
        for m, n, split, seed, rows in cells
    ]
    return pd.concat(tables, ignore_index=True)


def row_of(probability: float, share: float, dsc: float = 0.5, certainty: float = 0.5, auroc: float = 0.5) -> dict:
    """A subject with 1000 voxels, all of one probability, of which a share is foreground."""
    row: dict[str, float | int | str] = {
        f"{count}_bin{number}": 0 for number in range(N_BINS) for count in uncertainty.BIN_COUNTS
    }
    number = int(probability * N_BINS)
    row |= {f"n_voxels_bin{number}": 1000, f"sum_probability_bin{number}": 1000 * probability}
    row |= {f"n_foreground_bin{number}": round(1000 * share), "subject": "s", "dsc": dsc}
    reason = "no error" if math.isnan(auroc) else ""
    return row | {
        "uncertainty": 1 - certainty,
        "auroc_entropy": auroc,
        "auroc_mutual_information": float("nan"),
        "auroc_undefined": reason,
    }


def test_the_region_is_truth_and_prediction_dilated_by_three_voxels() -> None:
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4] = 1
    octahedron = 63  # voxels at a city-block distance of at most 3
    for foreground, expected in ((one_voxel(0.0, 0.0), octahedron), (one_voxel(0.9, 0.0), octahedron)):
        assert sum(counts(uncertainty_rows("s", prediction_of(foreground), truth), "n_voxels")) == expected
    predicted = uncertainty_rows("s", prediction_of(one_voxel(0.9, 0.0)), np.zeros_like(truth))
    assert sum(counts(predicted, "n_voxels")) == octahedron


def test_bins_count_voxels_probabilities_and_foreground() -> None:
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4:6] = 1
    foreground = one_voxel(1.0, 0.25)
    foreground[4, 4, 5] = 0.75
    row = uncertainty_rows("s", prediction_of(foreground), truth)
    n = sum(counts(row, "n_voxels"))
    assert counts(row, "n_voxels") == [0, 0, n - 2, 0, 0, 0, 0, 1, 0, 1]
    assert counts(row, "sum_probability") == pytest.approx([0, 0, (n - 2) / 4, 0, 0, 0, 0, 0.75, 0, 1])
    assert counts(row, "n_foreground") == [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
    assert row["dsc"] == 1


def test_foreground_is_any_class_and_a_class_taken_for_another_is_an_error() -> None:
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4] = 2
    probability = torch.zeros(3, 9, 9, 9)
    probability[0] = 1
    probability[:, 4, 4, 4] = torch.tensor([0.05, 0.5, 0.45])
    entropy = torch.special.entr(probability).sum(0)
    row = uncertainty_rows("s", Prediction(probability, entropy, torch.zeros(9, 9, 9)), truth)
    assert counts(row, "n_voxels")[9] == counts(row, "n_foreground")[9] == 1
    assert row["sum_probability_bin9"] == pytest.approx(0.95)
    assert row["dsc"] == 0
    assert row["auroc_entropy"] == 1
    # Class 1: 2·0.5 / (0.5 + 1); class 2 is labelled nowhere.
    assert row["uncertainty"] == pytest.approx(1 - (2 * 0.5 / 1.5 + 0) / 2)


def test_the_area_is_the_chance_that_an_error_is_the_more_uncertain() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 5, 60).astype(np.float32)  # with ties
    is_wrong = generator.random(60) < 0.3
    pairs = values[is_wrong][:, None] - values[~is_wrong][None]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert 0.2 < expected < 0.8
    assert uncertainty.error_auroc(values, is_wrong) == pytest.approx(expected)
    assert uncertainty.error_auroc(np.array([0.1, 0.2, 0.9]), np.array([False, False, True])) == 1
    assert uncertainty.error_auroc(np.array([0.1, 0.2, 0.0]), np.array([False, False, True])) == 0
    assert uncertainty.error_auroc(np.ones(4), np.array([False, True] * 2)) == 0.5


def test_an_undefined_area_says_why() -> None:
    empty = np.zeros((9, 9, 9), np.uint8)
    truth = empty.copy()
    truth[4, 4, 4] = 1
    rows = {
        "no foreground": uncertainty_rows("s", prediction_of(one_voxel(0.1, 0.1)), empty),
        "no error": uncertainty_rows("s", prediction_of(one_voxel(0.9, 0.1)), truth),
        "nothing but errors": uncertainty_rows("s", prediction_of(one_voxel(0.9, 0.9)), empty),
        "": uncertainty_rows("s", prediction_of(one_voxel(0.1, 0.1)), truth),
    }
    for reason, row in rows.items():
        assert row["auroc_undefined"] == reason
        assert math.isnan(row["auroc_entropy"]) == bool(reason)


def test_mutual_information_is_measured_where_there_is_any() -> None:
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4] = 1
    foreground = one_voxel(0.45, 0.1)  # missed, and most uncertain there
    assert math.isnan(uncertainty_rows("s", prediction_of(foreground), truth)["auroc_mutual_information"])
    sampled = uncertainty_rows("s", prediction_of(foreground, information=1.0), truth)
    assert sampled["auroc_mutual_information"] == 1
    wrong_way = uncertainty_rows("s", prediction_of(foreground, information=-1.0), truth)
    assert wrong_way["auroc_mutual_information"] == 0


def test_areas_are_taken_over_the_region_alone() -> None:
    """Background beyond the margin is right, and were it counted in, its uncertainty would move the area."""
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4] = 1
    foreground = one_voxel(0.45, 0.1)  # missed, and the most uncertain voxel of the region
    foreground[0, 0, 0] = 0.49  # right, beyond the margin, more uncertain still
    predicted = prediction_of(foreground, information=1.0)
    row = uncertainty_rows("s", predicted, truth)
    is_wrong = (foreground > 0.5).ravel() != (truth > 0).ravel()
    for name in ("entropy", "mutual_information"):
        assert row[f"auroc_{name}"] == 1
        assert uncertainty.error_auroc(getattr(predicted, name).numpy().ravel(), is_wrong) < 1


def test_a_volumes_uncertainty_is_the_dsc_that_truths_drawn_from_it_would_lack() -> None:
    generator = np.random.default_rng(1)
    p = generator.beta(0.4, 0.8, size=(12, 12, 12))
    label = p > 0.5
    drawn = []
    for _ in range(400):
        truth = generator.random(p.shape) < p
        drawn.append(2 * (truth & label).sum() / (truth.sum() + label.sum()))
    expected = 1 - uncertainty.volume_uncertainty(np.stack([1 - p, p]))
    # A ratio of means, for a mean of ratios: they differ by the order of 1 / voxels.
    assert expected == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / 20 + 1 / p.size)


def test_who_finds_nothing_is_uncertain_unless_sure_of_it() -> None:
    def of(p: np.ndarray) -> float:
        return uncertainty.volume_uncertainty(np.stack([1 - p, p]))

    assert of(one_voxel(0.4, 0.0)) == 1
    assert of(one_voxel(0.0, 0.0)) == 0
    assert of(one_voxel(1.0, 0.0)) == 0
    assert of(one_voxel(0.6, 0.0)) == pytest.approx(1 - 1.2 / 1.6)


def test_a_truth_that_does_not_fit_names_the_subject() -> None:
    with pytest.raises(ValueError, match=r"subject anna: .*grid"):
        uncertainty_rows("anna", prediction_of(one_voxel(1, 0)), np.zeros((9, 9, 8), np.uint8))
    with pytest.raises(ValueError, match=r"subject anna: .*values other than 0 to 1"):
        uncertainty_rows("anna", prediction_of(one_voxel(1, 0)), np.full((9, 9, 9), 2, np.uint8))


def test_calibration_error_is_zero_for_a_calibrated_network_and_the_gap_for_another() -> None:
    generator = np.random.default_rng(2)
    p = generator.random((60, 40, 40))
    truth = (generator.random(p.shape) < p).astype(np.uint8)

    def ece(shown: np.ndarray) -> float:
        row = uncertainty_rows("s", prediction_of(shown), truth)
        return uncertainty.expected_calibration_error(uncertainty.pooled_bins(pd.DataFrame([row])))

    # Of 10 bins with n = 9600 each, |error| of a share has mean √(2p(1 − p)/(πn)) ≤ 0.0041.
    assert ece(p) < 0.0041 * 1.5
    # Squared, a probability of mean 1/2 has the mean 1/3, and is too small everywhere.
    assert ece(p**2) == pytest.approx(1 / 6, abs=0.005)
    none = pd.DataFrame(columns=uncertainty.UNCERTAINTY_COLUMNS)
    assert math.isnan(uncertainty.expected_calibration_error(uncertainty.pooled_bins(none)))


def test_the_summary_averages_networks_then_seeds_then_draws() -> None:
    """A draw that claims too much and one that claims too little do not make up for each other."""
    rows = table_of(
        [
            ("dwp", 5, 0, 0, [row_of(0.7, 0.5, 0.9, 0.9, 0.6), row_of(0.7, 0.5, 0.1, 0.1, float("nan"))]),
            ("dwp", 5, 0, 1, [row_of(0.7, 0.6, 0.9, 0.9, 0.8), row_of(0.7, 0.6, 0.1, 0.1, 0.6)]),
            ("dwp", 5, 1, 0, [row_of(0.2, 0.4, 0.9, 0.1, 0.9), row_of(0.7, 0.9, 0.1, 0.9, 0.9)]),
            ("ri", 10, 0, 0, [row_of(0.5, 0.5, 0.4, 0.2), row_of(0.5, 0.5, 0.4, 0.3)]),
        ]
    )
    table = uncertainty.summarise_uncertainty(rows).set_index(["method", "n_train"])
    dwp, ri = table.loc[("dwp", 5)], table.loc[("ri", 10)]
    assert dwp["ece"] == pytest.approx(((0.2 + 0.1) / 2 + 0.2) / 2)
    assert dwp["ece_sd"] == pytest.approx(0.05 / math.sqrt(2))
    assert dwp["auroc_entropy"] == pytest.approx(((0.6 + 0.7) / 2 + 0.9) / 2)
    assert dwp["rank_correlation"] == pytest.approx(0)
    assert dwp["rank_correlation_sd"] == pytest.approx(math.sqrt(2))
    assert math.isnan(dwp["auroc_mutual_information"])
    assert (dwp["n_draws"], dwp["n_without_auroc"], dwp["n_without_correlation"]) == (2, 1, 0)
    assert ri["ece"] == pytest.approx(0)
    assert math.isnan(ri["rank_correlation"])
    assert ri["n_without_correlation"] == 1
    assert math.isnan(ri["ece_sd"])
    assert list(table.columns) == [
        *(f"{name}{end}" for name in uncertainty.SUMMARISED for end in ("", "_sd")),
        "n_draws",
        "n_without_auroc",
        "n_without_correlation",
    ]


def test_the_rank_correlation_is_minus_one_where_uncertainty_foretells_the_dsc() -> None:
    rows = pd.DataFrame({"uncertainty": [0.1, 0.2, 0.4, 0.9], "dsc": [0.99, 0.9, 0.2, 0.1]})
    assert uncertainty.rank_correlation(rows) == pytest.approx(-1)


def test_the_table_comes_back_from_a_file() -> None:
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[4, 4, 4] = 1
    subjects = {"007": one_voxel(0.4, 0.1), "b": one_voxel(0.9, 0.2)}
    rows = table_of([("ri", 5, 0, 0, [uncertainty_rows(n, prediction_of(p), truth) for n, p in subjects.items()])])
    assert list(rows.columns) == uncertainty.UNCERTAINTY_COLUMNS
    again = pd.read_csv(io.StringIO(rows.to_csv(index=False)), dtype={"subject": str})
    assert list(again["subject"]) == ["007", "b"]
    pd.testing.assert_frame_equal(
        uncertainty.summarise_uncertainty(again), uncertainty.summarise_uncertainty(rows)
    )
