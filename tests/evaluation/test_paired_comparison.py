from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, wilcoxon

from dwp_kedro.evaluation.paired_comparison import COMPARISON_COLUMNS, compare_methods, holm, student_interval

DIFFERENCES = [0.05, 0.11, -0.02, 0.07, 0.09, -0.01, 0.13, 0.04]


def scores_of(rows: list[tuple[str, int, int, int, str, float]], name: str = "tumour") -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["method", "n_train", "split", "seed", "subject", "dsc"])
    return table.assign(**{"class": name})


def paired(dwp_minus_method: dict[str, list[float]], shift: float = 0.03) -> pd.DataFrame:
    """Every subject is tested in draws 0 and 1, where a method lies ``difference`` ± ``shift`` below dwp."""
    rows = []
    for place in range(len(DIFFERENCES)):
        for split in (0, 1):
            rows.append(("dwp", 5, split, 0, f"s{place}", 0.6 + 0.1 * split))
            for method, differences in dwp_minus_method.items():
                dsc = 0.6 + 0.1 * split - differences[place] + (-shift if split else shift)
                rows.append((method, 5, split, 0, f"s{place}", dsc))
    return scores_of(rows)


def only_row(scores: pd.DataFrame, reference: str = "dwp") -> dict[str, float]:
    (row,) = compare_methods(scores, reference).to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_students_interval_of_known_numbers() -> None:
    # Mean 3, s = √2.5, t(0.975, 4) = 2.7764451: half width 2.7764451·√(2.5/5).
    assert student_interval([1, 2, 3, 4, 5]) == pytest.approx((3 - 1.9632432, 3 + 1.9632432), abs=1e-6)
    # t(0.975, 1) = tan(0.475·π) = 12.7062, s/√2 = 0.5 for 0 and 1.
    half = math.tan(0.475 * math.pi) / 2
    assert student_interval([0.0, 1.0]) == pytest.approx((0.5 - half, 0.5 + half))
    assert student_interval([0.2, 0.2, 0.2]) == pytest.approx((0.2, 0.2))
    assert all(math.isnan(end) for end in student_interval([0.7]))


def test_the_test_and_both_intervals_rest_on_the_right_means() -> None:
    row = only_row(paired({"ri": DIFFERENCES}))
    assert list(row) == COMPARISON_COLUMNS
    assert (row["n_train"], row["method"], row["reference"]) == (5, "ri", "dwp")
    assert (row["n_subjects"], row["n_draws"]) == (8, 2)
    mean = sum(DIFFERENCES) / 8
    assert row["mean_difference"] == pytest.approx(mean)
    assert row["statistic"] == 3.0  # ranks 1 and 2 are the negative ones
    assert row["p_value"] == row["p_holm"] == pytest.approx(wilcoxon(DIFFERENCES).pvalue)
    assert row["p_value"] == pytest.approx(10 / 256)  # two-sided: 5 of the 2⁸ sign patterns have W ≤ 3
    # The draws' means are mean − 0.03 and mean + 0.03: s/√2 = 0.03.
    half = 0.03 * math.tan(0.475 * math.pi)
    assert (row["draws_low"], row["draws_high"]) == pytest.approx((mean - half, mean + half))
    of_patients = ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    assert (row["patients_low"], row["patients_high"]) == pytest.approx((of_patients.low, of_patients.high))


def test_what_every_patient_shares_in_a_draw_widens_only_the_interval_over_draws() -> None:
    narrow, wide = (only_row(paired({"ri": DIFFERENCES}, shift)) for shift in (0.01, 0.1))
    assert wide["draws_high"] - wide["draws_low"] == pytest.approx(
        10 * (narrow["draws_high"] - narrow["draws_low"])
    )
    for name in ("mean_difference", "patients_low", "patients_high"):
        assert wide[name] == pytest.approx(narrow[name])


def test_seeds_and_classes_are_averaged_within_a_draw_which_stays_one_draw() -> None:
    table = paired({"ri": DIFFERENCES})
    other = table.assign(dsc=np.where(table["method"] == "ri", table["dsc"] - 0.02, table["dsc"]))
    seeds = only_row(pd.concat([table, other.assign(seed=1)]))
    classes = only_row(pd.concat([table, other.assign(**{"class": "core"})]))
    assert seeds == pytest.approx(classes)
    assert seeds["mean_difference"] == pytest.approx(sum(DIFFERENCES) / 8 + 0.01)
    assert (seeds["n_draws"], seeds["n_subjects"]) == (2, 8)


def test_only_draws_seeds_and_subjects_that_both_have_are_paired() -> None:
    table = paired({"ri": DIFFERENCES})
    dwp = table[table["method"] == "dwp"]
    alone = [
        dwp.assign(split=2, dsc=0.99),  # a draw that ri has not
        dwp.assign(seed=1, dsc=0.99),  # a seed that ri has not
        table[table["method"] == "ri"].assign(subject="other", dsc=0.01),
    ]
    pd.testing.assert_frame_equal(
        compare_methods(pd.concat([table, *alone]), "dwp"), compare_methods(table, "dwp")
    )


def test_one_draw_has_no_interval_over_draws() -> None:
    table = paired({"ri": DIFFERENCES})
    row = only_row(table[table["split"] == 0])
    assert row["n_draws"] == 1
    assert math.isnan(row["draws_low"])
    assert math.isnan(row["draws_high"])
    assert row["patients_low"] < row["mean_difference"] < row["patients_high"]


def test_the_order_of_rows_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    table = paired({"ri": DIFFERENCES, "pr": [0.1 * d for d in DIFFERENCES]})
    table = pd.concat([table.assign(**{"class": name, "dsc": rng.random(len(table))}) for name in "abc"])
    shuffled = table.sample(frac=1, random_state=1)
    first, second = compare_methods(table, "dwp"), compare_methods(shuffled, "dwp")
    pd.testing.assert_frame_equal(
        first.sort_values("method", ignore_index=True),
        second.sort_values("method", ignore_index=True),
        check_exact=True,
    )


def test_the_reference_decides_the_sign() -> None:
    table = paired({"ri": DIFFERENCES})
    forward, back = only_row(table), only_row(table, "ri")
    assert (back["reference"], back["method"]) == ("ri", "dwp")
    assert back["p_value"] == forward["p_value"]
    assert back["patients_low"] == pytest.approx(-forward["patients_high"])
    assert back["draws_high"] == pytest.approx(-forward["draws_low"])


def test_p_is_adjusted_within_each_train_size() -> None:
    small = [difference / 10 + 0.001 * (-1) ** place for place, difference in enumerate(DIFFERENCES)]
    table = paired({"ri": DIFFERENCES, "pr": [0.1 * d for d in DIFFERENCES], "prf": small})
    tests = compare_methods(pd.concat([table, table.assign(n_train=10)]), "dwp")
    assert tests["n_train"].tolist() == [5] * 3 + [10] * 3
    assert tests["method"].tolist() == ["ri", "pr", "prf"] * 2
    at_five = tests[tests["n_train"] == 5]
    assert at_five["p_holm"].tolist() == holm(at_five["p_value"].tolist())


def test_equal_methods_have_p_one() -> None:
    table = paired({"ri": DIFFERENCES})
    dwp = table[table["method"] == "dwp"]
    row = only_row(pd.concat([dwp, dwp.assign(method="twin")]))
    assert (row["mean_difference"], row["p_value"], row["p_holm"]) == (0.0, 1.0, 1.0)
    assert (row["draws_low"], row["draws_high"]) == (0.0, 0.0)


def test_without_the_reference_or_anything_in_common_nothing_is_compared() -> None:
    table = paired({"ri": DIFFERENCES})
    of_ri = table[table["method"] == "ri"]
    apart = pd.concat([of_ri.assign(split=of_ri["split"] + 2), table[table["method"] == "dwp"]])
    for scores in (of_ri, apart):
        compared = compare_methods(scores, "dwp")
        assert compared.empty
        assert list(compared.columns) == COMPARISON_COLUMNS


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
    assert holm(p_values) == pytest.approx(adjusted)
