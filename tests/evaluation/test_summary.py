from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

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


DIFFERENCES = [0.05, 0.11, -0.02, 0.07, 0.09, -0.01, 0.13, 0.04]


def paired(method_minus_dwp: dict[str, list[float]]) -> pd.DataFrame:
    """Subjects are all tested in splits 0 and 1; a method's mean over both lies ``difference`` below dwp."""
    rows: list[Row] = []
    for place in range(len(DIFFERENCES)):
        for split in (0, 1):
            rows.append(("dwp", 5, split, 0, f"s{place}", 0.6 + 0.1 * split))
            for method, differences in method_minus_dwp.items():
                noise = 0.03 * (1 if split else -1)
                dsc = 0.6 + 0.1 * split - differences[place] + noise
                rows.append((method, 5, split, 0, f"s{place}", dsc))
    return scores_of(rows)


def test_wilcoxon_tests_the_subjects_means_over_splits() -> None:
    (row,) = summary.paired_wilcoxon(paired({"ri": DIFFERENCES})).to_dict("records")
    expected = wilcoxon(DIFFERENCES)
    assert (row["n_train"], row["method"], row["reference"], row["n_subjects"]) == (5, "ri", "dwp", 8)
    assert row["mean_difference"] == pytest.approx(sum(DIFFERENCES) / 8)
    assert row["statistic"] == 3.0  # ranks 1 and 2 are the negative ones
    assert row["p_value"] == row["p_holm"] == pytest.approx(expected.pvalue)
    assert row["p_value"] == pytest.approx(10 / 256)  # two-sided: 5 of the 2⁸ sign patterns have W ≤ 3


def test_wilcoxon_uses_only_splits_that_both_methods_share() -> None:
    table = paired({"ri": DIFFERENCES})
    more_of_dwp = table[table["method"] == "dwp"].assign(split=2, dsc=0.99)
    with_more = summary.paired_wilcoxon(pd.concat([table, more_of_dwp]))
    pd.testing.assert_frame_equal(with_more, summary.paired_wilcoxon(table))


def test_wilcoxon_adjusts_within_each_train_size() -> None:
    small = [difference / 10 + 0.001 * (-1) ** place for place, difference in enumerate(DIFFERENCES)]
    table = paired({"ri": DIFFERENCES, "pr": [0.1 * d for d in DIFFERENCES], "prf": small})
    tests = summary.paired_wilcoxon(pd.concat([table, table.assign(n_train=10)]))
    assert tests["n_train"].tolist() == [5] * 3 + [10] * 3
    assert tests["method"].tolist() == ["ri", "pr", "prf"] * 2
    at_five = tests[tests["n_train"] == 5]
    assert at_five["p_holm"].tolist() == summary.holm(at_five["p_value"].tolist())


def test_equal_methods_have_p_one() -> None:
    table = paired({"ri": DIFFERENCES})
    twin = table[table["method"] == "dwp"].assign(method="twin")
    (row,) = summary.paired_wilcoxon(pd.concat([table[table["method"] == "dwp"], twin])).to_dict("records")
    assert (row["mean_difference"], row["p_value"], row["p_holm"]) == (0.0, 1.0, 1.0)


def test_without_the_reference_nothing_is_tested() -> None:
    table = paired({"ri": DIFFERENCES})
    tests = summary.paired_wilcoxon(table[table["method"] == "ri"])
    assert tests.empty
    assert list(tests.columns) == summary.WILCOXON_COLUMNS


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.02, 0.03, 0.005], [0.03, 0.04, 0.04, 0.02]),
        ([0.5, 0.9, 0.04], [1.0, 1.0, 0.12]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert summary.holm(p_values) == pytest.approx(adjusted)


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


def test_empty_predictions_are_counted(scores: pd.DataFrame) -> None:
    scores.loc[0, "volume_predicted"] = 0.0
    scores.loc[[5, 6], ["volume_predicted", "volume_true"]] = 0.0
    assert summary.empty_predictions(scores).loc[5].to_dict() == {"ri": "0 of 3", "dwp": "1 of 5"}


def test_timings_are_means_per_cell() -> None:
    timings = pd.DataFrame(
        {"method": ["dwp", "dwp", "ri"], "n_train": [5, 5, 5], "train_seconds": [1000.0, 2000.0, 7.4]}
    )
    assert summary.timing_table(timings).loc[5].to_dict() == {"ri": "7", "dwp": "1,500"}
