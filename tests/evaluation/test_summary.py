from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dwp_kedro.evaluation import summary

Row = tuple[str, int, int, int, str, float]


def scores_of(rows: list[Row], name: str = "tumour") -> pd.DataFrame:
    """Scores whose other metrics follow from the DSC: IoU half of it, HD95 ten times 1 − DSC."""
    table = pd.DataFrame(rows, columns=["method", "n_train", "split", "seed", "subject", "dsc"])
    return table.assign(
        **{"class": name},
        iou=table["dsc"] / 2,
        hd95=10 * (1 - table["dsc"]),
        own_grid_dsc=table["dsc"] - 0.1,
        volume_true=5.0,
        volume_predicted=np.where(table["dsc"] > 0, 4.0, 0.0),
        distance_unit="mm",
        volume_unit="ml",
    )


@pytest.fixture
def scores() -> pd.DataFrame:
    """Two splits of one subject and of three; in split 0 dwp ran with two seeds."""
    return scores_of(
        [
            ("dwp", 5, 0, 0, "a", 0.5),
            ("dwp", 5, 0, 1, "a", 0.7),  # split 0: (0.5 + 0.7) / 2 = 0.6
            ("dwp", 5, 1, 0, "b", 0.7),
            ("dwp", 5, 1, 0, "c", 0.9),
            ("dwp", 5, 1, 0, "d", 0.8),  # split 1: (0.7 + 0.9 + 0.8) / 3 = 0.8
            ("ri", 5, 0, 0, "a", 0.5),
            ("ri", 5, 1, 0, "b", 0.6),
            ("ri", 5, 1, 0, "c", 0.8),  # 0.5 and 0.7
            ("ri", 10, 0, 0, "a", 0.75),
        ]
    )


def test_a_mean_goes_over_subjects_then_seeds_then_splits(scores: pd.DataFrame) -> None:
    table = summary.mean_and_sd(scores, "dsc").set_index(["method", "n_train"])
    assert table.loc[("dwp", 5), "mean"] == pytest.approx(0.7)  # by rows it would be 3.6 / 5
    assert table.loc[("ri", 5), "mean"] == pytest.approx(0.6)  # by rows it would be 1.9 / 3
    assert table.loc[("dwp", 5), "sd"] == pytest.approx(math.sqrt(0.02))  # √((0.1² + 0.1²) / (2 − 1))
    assert table.loc[("dwp", 5), "n_splits"] == 2
    assert math.isnan(table.loc[("ri", 10), "sd"])


def test_the_summary_table_has_the_papers_form(scores: pd.DataFrame) -> None:
    table = summary.summary_table(scores, "dsc")
    assert table.index.name == "n_train"
    assert table.to_dict("index") == {
        5: {"ri": "0.60 (0.14)", "dwp": "0.70 (0.14)"},
        10: {"ri": "0.75 (–)", "dwp": "–"},
    }
    assert summary.summary_table(scores, "hd95").loc[5, "dwp"] == "3.0 (1.4)"


def test_methods_stand_in_the_papers_order() -> None:
    methods = ["mine", "dwp", "a", "ri", "dwp", "prf"]
    assert summary.ordered_methods(methods) == ["ri", "prf", "dwp", "mine", "a"]


def test_classes_are_averaged_or_shown_one_by_one() -> None:
    rows: list[Row] = [("ri", 5, 0, 0, "a", 0.2)]
    both = pd.concat([scores_of(rows, "core"), scores_of([("ri", 5, 0, 0, "a", 0.8)], "rim")])
    assert summary.summary_table(both, "dsc").loc[5, "ri"] == "0.50 (–)"
    by_class = summary.summary_tables_by_class(both, "dsc")
    cells = {name: table.loc[5, "ri"] for name, table in by_class.items()}
    assert cells == {"core": "0.20 (–)", "rim": "0.80 (–)"}


def test_metrics_have_names_and_no_nan(scores: pd.DataFrame) -> None:
    metrics = summary.summary_metrics(scores)
    assert metrics["dwp_n5_dsc_mean"] == pytest.approx(0.7)
    assert metrics["dwp_n5_dsc_sd"] == pytest.approx(math.sqrt(0.02))
    assert metrics["dwp_n5_iou_mean"] == pytest.approx(0.35)
    assert metrics["dwp_n5_hd95_mean"] == pytest.approx(3.0)
    assert metrics["ri_n10_own_grid_dsc_mean"] == pytest.approx(0.65)
    assert "ri_n10_dsc_sd" not in metrics
    assert len(metrics) == 3 * 4 + 2 * 4
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_cells_metrics_are_its_test_means_and_its_trainings(scores: pd.DataFrame) -> None:
    cell = scores[(scores["method"] == "ri") & (scores["split"] == 1)]
    assert summary.cell_metrics(cell, {"train_seconds": 12.5}) == pytest.approx(
        {
            "train_seconds": 12.5,
            "test_dsc_mean": 0.7,
            "test_iou_mean": 0.35,
            "test_hd95_mean": 3.0,
            "test_own_grid_dsc_mean": 0.6,
        }
    )


def test_cases_go_by_the_mean_over_methods() -> None:
    dsc = {"a": (0.1, 0.5), "b": (0.9, 0.7), "c": (0.4, 0.4), "d": (0.2, 0.2), "e": (0.5, 0.6)}
    rows: list[Row] = [("ri", 5, 0, 0, subject, pair[0]) for subject, pair in dsc.items()]
    rows += [("dwp", 5, 0, 0, subject, pair[1]) for subject, pair in dsc.items()]
    rows.append(("ri", 5, 1, 0, "only with ri", 0.0))
    table = summary.subject_table(scores_of(rows))
    assert table.index.tolist() == ["d", "a", "c", "e", "b"]
    assert table["mean"].tolist() == pytest.approx([0.2, 0.3, 0.4, 0.55, 0.8])
    assert summary.representative_subjects(scores_of(rows)) == {"best": "b", "median": "c", "worst": "d"}
    two = scores_of([row for row in rows if row[4] in "ab"])
    assert summary.representative_subjects(two) == {"best": "b", "worst": "a"}


def test_a_case_says_which_cell_did_worst_and_best_on_it() -> None:
    dsc = {("ri", 5, 0): 0.2, ("ri", 5, 1): 0.4, ("ri", 10, 0): 0.5, ("dwp", 5, 0): 0.25, ("dwp", 10, 0): 0.9}
    rows: list[Row] = [(method, n, split, 0, "a", value) for (method, n, split), value in dsc.items()]
    rows += [(method, 5, 0, 0, "b", 0.1) for method in ("ri", "dwp")]
    rows.append(("ri", 5, 0, 0, "only with ri", 0.0))
    table = summary.case_table(scores_of(rows)).set_index("subject")
    assert list(table.index) == ["b", "a"]
    # ri: (0.2 + 0.4 + 0.5) / 3, dwp: (0.25 + 0.9) / 2. The lowest is a mean over draws: not ri's 0.2.
    assert table.loc["a"].to_dict() == {
        "mean": pytest.approx((1.1 / 3 + 1.15 / 2) / 2),
        "lowest": 0.25,
        "lowest_method": "dwp",
        "lowest_n_train": 5,
        "highest": 0.9,
        "highest_method": "dwp",
        "highest_n_train": 10,
    }
    nobody = summary.case_table(scores_of([("ri", 5, 0, 0, "a", 0.2), ("dwp", 5, 0, 0, "b", 0.2)]))
    assert nobody.empty
    assert "highest_n_train" in nobody


def test_empty_predictions_are_counted(scores: pd.DataFrame) -> None:
    scores.loc[0, "volume_predicted"] = 0.0
    scores.loc[[5, 6], ["volume_predicted", "volume_true"]] = 0.0
    assert summary.empty_predictions(scores).loc[5].to_dict() == {"ri": "0 of 3", "dwp": "1 of 5"}


def test_costs_are_means_over_cells() -> None:
    timings = pd.DataFrame(
        [
            ("dwp", 10, 0, 90.0, 512.0),
            ("mine", 5, 0, 5.0, 100.0),
            ("dwp", 5, 0, 1000.0, 300.0),
            ("dwp", 5, 1, 2000.0, 500.0),
            ("ri", 5, 0, 7.5, 200.0),
        ],
        columns=["method", "n_train", "split", "train_seconds", "peak_memory_mb"],
    )
    assert summary.cost_table(timings).to_dict("split")["data"] == [
        [5, "ri", 1, 7.5, 200.0],
        [5, "dwp", 2, 1500.0, 400.0],
        [5, "mine", 1, 5.0, 100.0],
        [10, "dwp", 1, 90.0, 512.0],
    ]
