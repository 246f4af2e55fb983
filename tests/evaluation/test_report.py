from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dwp_kedro.evaluation.figures import dsc_against_train_size, paired_scores, score_distribution
from dwp_kedro.evaluation.report import build_report
from dwp_kedro.evaluation.training_curves import training_curves

EVIL = "<script>alert('x')</script>"
UNCERTAINTY = pd.DataFrame(
    {
        "method": ["ri", "dwp"],
        "n_train": [5, 5],
        **{name: [0.25, 0.125] for name in ("ece", "auroc_entropy", "rank_correlation")},
        **{f"{name}_sd": [0.5, np.nan] for name in ("ece", "auroc_entropy", "rank_correlation")},
        "auroc_mutual_information": [np.nan, 0.75],
        "auroc_mutual_information_sd": np.nan,
        "n_draws": [2, 1],
        "n_without_auroc": [0, 3],
        "n_without_correlation": [1, 0],
    }
)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    dsc = {"ri": [0.40, 0.60, 0.50], "dwp": [0.52, 0.74, 0.60]}
    rows = [
        (method, 5, split, subject, value + 0.02 * split)
        for method, values in dsc.items()
        for split in (0, 1)
        for subject, value in zip((EVIL, "b", "c"), values, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["method", "n_train", "split", "subject", "dsc"])
    return table.assign(
        **{"class": "tumour"},
        seed=0,
        iou=table["dsc"] / 2,
        hd95=20 * (1 - table["dsc"]),
        own_grid_dsc=table["dsc"] / 4,
        volume_true=3.0,
        volume_predicted=np.where(table["dsc"] > 0.45, 2.0, 0.0),
        distance_unit="voxel",
        volume_unit="voxel",
    )


def report_of(scores: pd.DataFrame, **replaced: object) -> str:
    arguments: dict[str, object] = {
        "title": "Plaques to tumours",
        "scores": scores,
        "reference": "dwp",
        "facts": {"Source cohort": {"description": "heads & <plaques>", "subjects": "16"}},
        "command": "kedro run --env test --params 'a<b'",
        "restricted_by": "",
        "figures": {"DSC": dsc_against_train_size(scores), "Slices <1>": Figure(figsize=(1, 1))},
        "timings": pd.DataFrame(
            {
                "method": ["ri", "dwp"],
                "n_train": [5, 10],
                "train_seconds": [12.0, 3456.0],
                "peak_memory_mb": [512.0, 1024.0],
            }
        ),
        "uncertainty": UNCERTAINTY,
        "prior": pd.DataFrame(
            {"place": ["encoder 1/1"], "kernel VAE (bound)": [32.125], "kernels": [53184.0], "scale": [np.nan]},
            index=pd.Index(["group_1"], name="group"),
        ),
        "circumstances": {"Versions": {"torch": "2.13.0"}},
        "notice": None,
    }
    return build_report(**{**arguments, **replaced})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report(scores: pd.DataFrame) -> str:
    return report_of(scores)


def body_of(report: str) -> str:
    return report[report.index("<main>") :]


def rows_of(report: str, title: str) -> list[list[str]]:
    """Cells of the table with this title, row by row, with their marks."""
    table = report[report.index(f"<figcaption>{title}") :].split("</table>")[0]
    rows = [re.findall(r"<t[hd].*?>.*?</t[hd]>", row) for row in table.split("<tr>")[2:]]
    return [[re.sub(r"</?t[hd]( scope=.row.)?>", "", cell) for cell in row] for row in rows]


def test_the_numbers_are_there(report: str) -> None:
    best = '<td class="best">'
    body = body_of(report)
    assert rows_of(body, "DSC on the preprocessed") == [["ri", "0.51 (0.01)"], ["dwp", best + "0.63 (0.01)"]]
    assert rows_of(body, "IoU") == [["ri", "0.26 (0.01)"], ["dwp", best + "0.32 (0.01)"]]
    # Of distances the smaller is the better.
    assert rows_of(body, "95 % Hausdorff") == [["ri", "9.8 (0.3)"], ["dwp", best + "7.4 (0.3)"]]
    assert rows_of(body, "DSC on the scan") == [["ri", "0.13 (0.00)"], ["dwp", best + "0.16 (0.00)"]]
    assert rows_of(body, "Predictions that left out") == [["ri", "2 of 6"], ["dwp", "0 of 6"]]
    assert rows_of(body, "Training time of a cell, s") == [["ri", "12", "–"], ["dwp", "–", "3,456"]]
    assert rows_of(body, "Peak memory of a cell, MiB") == [["ri", "512", "–"], ["dwp", "–", "1,024"]]
    assert rows_of(body, "Priors, by kernel group") == [["group_1", "encoder 1/1", "32.12", "53,184", "–"]]
    assert "<dd>2.13.0</dd>" in body
    assert "all 2 cells together took 58 min" in re.sub(r"\s+", " ", body)
    assert "Distances are in voxel, volumes in voxel, because" in re.sub(r"\s+", " ", body)


def test_uncertainty_has_human_headings_and_no_nan(report: str) -> None:
    body = body_of(report)
    assert rows_of(body, "Uncertainty: mean over draws") == [
        ["ri", "5", "0.250 (0.500)", "0.250 (0.500)", "–", "0.250 (0.500)", "2", "0", "1"],
        ["dwp", "5", "0.125 (–)", "0.125 (–)", "0.750 (–)", "0.125 (–)", "1", "3", "0"],
    ]
    tables = re.findall(r"<table>.*?</table>", body, flags=re.DOTALL)
    assert len(tables) == 11
    assert not [table for table in tables if "_" in table.replace("group_1", "") or "nan" in table.lower()]


def test_the_comparison_shows_both_intervals(scores: pd.DataFrame, report: str) -> None:
    # Differences 0.12, 0.14, 0.10 of three patients, the same in both draws: s/√3 = 0.01155, t(0.975, 2) = 4.3027.
    of_patients = ["+0.070 to +0.170", "3", "0", "0.25", "0.25"]
    assert rows_of(report, "Difference of DSC") == [
        ["5", "dwp − ri", "+0.120", "+0.120 to +0.120", "2", *of_patients]
    ]
    one_draw = report_of(scores[scores["split"] == 0])
    assert rows_of(one_draw, "Difference of DSC") == [["5", "dwp − ri", "+0.120", "–", "1", *of_patients]]
    other_way = rows_of(report_of(scores, reference="ri"), "Difference of DSC")
    assert other_way[0][1:3] == ["ri − dwp", "-0.120"]
    text = re.sub(r"\s+", " ", body_of(report))
    assert "other training volumes from the same pool" in text
    assert "significan" not in text


def test_few_cases_are_shown_once_with_what_did_worst_and_best_on_them(scores: pd.DataFrame, report: str) -> None:
    body = body_of(report)
    assert "Worst cases" not in body
    assert "Best cases" not in body
    # ri 0.40 to 0.60 and dwp 0.52 to 0.74, and 0.02 more in the second of two draws.
    assert rows_of(body, "All test subjects, worst first") == [
        [
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            "0.47",
            "0.41 (ri, n = 5)",
            "0.53 (dwp, n = 5)",
        ],
        ["c", "0.56", "0.51 (ri, n = 5)", "0.61 (dwp, n = 5)"],
        ["b", "0.68", "0.61 (ri, n = 5)", "0.75 (dwp, n = 5)"],
    ]
    disjoint = scores.assign(subject=scores["method"] + scores["subject"])
    assert "There is no subject on which every method was tested." in report_of(disjoint)


@pytest.mark.parametrize("n_subjects", [10, 11])
def test_no_subject_is_among_the_worst_and_the_best(scores: pd.DataFrame, n_subjects: int) -> None:
    one = scores[(scores["subject"] == "b") & (scores["split"] == 0)]
    many = pd.concat([one.assign(subject=f"s{number}", dsc=number / 100) for number in range(n_subjects)])
    body = body_of(report_of(many))
    if n_subjects == 10:
        assert [row[0] for row in rows_of(body, "All test subjects")] == [f"s{number}" for number in range(10)]
    else:
        assert [row[0] for row in rows_of(body, "Worst cases")] == ["s0", "s1", "s2", "s3", "s4"]
        assert [row[0] for row in rows_of(body, "Best cases")] == ["s10", "s9", "s8", "s7", "s6"]


def test_a_run_that_made_a_part_says_so(scores: pd.DataFrame, report: str) -> None:
    assert "It made only a part" not in report
    assert "by tags, only_missing_outputs) and took" in report_of(
        scores, restricted_by="tags, only_missing_outputs"
    )


def test_data_cannot_become_markup(scores: pd.DataFrame) -> None:
    """Whatever text a user, a cohort or a colleague's prior brings along, in tables as in charts."""
    everywhere = f"{EVIL}<img src=https://evil.example/x>&amp;%{{x}}$"
    hostile = scores.assign(
        method=scores["method"].replace("dwp", everywhere),
        subject=everywhere + scores["subject"].str[:1],
        **{"class": np.where(scores["subject"] == "b", everywhere, "tumour")},
        distance_unit=everywhere,
        volume_unit=everywhere,
    )
    page = report_of(
        hostile,
        title=everywhere,
        reference=everywhere,
        facts={everywhere: {everywhere: everywhere}},
        command=everywhere,
        restricted_by=everywhere,
        figures={
            everywhere: dsc_against_train_size(hostile),
            f"{everywhere}2": score_distribution(hostile),
            f"{everywhere}3": paired_scores(hostile, everywhere),
            f"{everywhere}4": Figure(figsize=(1, 1)),
        },
        uncertainty=UNCERTAINTY.assign(method=everywhere),
        prior=pd.DataFrame({f"{everywhere}1": [everywhere]}, index=pd.Index([everywhere], name=everywhere)),
        circumstances={everywhere: {everywhere: everywhere}},
        notice=everywhere,
    )
    seen, harmless = Loads(), Loads()
    seen.feed(page)
    harmless.feed(report_of(scores))
    assert seen.tags["script"] == harmless.tags["script"] + 2  # two more charts
    assert seen.tags["img"] == 1
    assert all(found.startswith("data:image/png;base64,") for found in seen.found)
    # In a chart, plotly would take tags, entities and %{…} for its own.
    charts = "".join(re.findall(r"<script>.*?</script>", body_of(page), flags=re.DOTALL))
    assert "&lt;script&gt;" in charts
    assert "&amp;amp;&#37;{x}$" in charts
    assert not [sign for sign in ("\\u003cscript", "\\u003cimg", "%{x}$") if sign in charts]


class Loads(HTMLParser):
    """Collects what the page would load when it is opened, and counts its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_loads_nothing_from_outside(report: str) -> None:
    loads = Loads()
    loads.feed(report)
    assert loads.found
    assert all(found.startswith("data:image/png;base64,") for found in loads.found)
    assert loads.tags["link"] == loads.tags["iframe"] == 0
    style = report[report.index("<style>") : report.index("</style>")]
    assert not [sign for sign in ("@import", "url(", "http") if sign in style]
    assert (
        "content=\"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src " in report
    )
    assert report.count("plotly.js v") == 1


def test_charts_offer_no_upload(report: str) -> None:
    assert '"showSendToCloud": false' in body_of(report)


def test_the_notice_stands_above_the_title(scores: pd.DataFrame, report: str) -> None:
    assert 'role="note"' not in report
    body = body_of(report_of(scores, notice="made-up scans, not evidence"))
    assert body.index("made-up scans, not evidence") < body.index("<h1>")


def test_unequal_draws_and_a_missing_reference_are_said(scores: pd.DataFrame) -> None:
    said = "Not every method was run on the same draws"
    partly = scores[(scores["method"] == "ri") | (scores["split"] == 0)]
    assert said in report_of(partly)
    assert said not in report_of(scores)
    fewer_at_ten = pd.concat([scores, scores[scores["split"] == 0].assign(n_train=10)])
    assert said not in report_of(fewer_at_ten)
    assert "Nothing was compared: dwp and" in report_of(scores[scores["method"] == "ri"])


def test_the_report_of_a_large_grid_stays_small() -> None:
    rng = np.random.default_rng(0)
    cells = pd.MultiIndex.from_product(
        [
            [f"method_{number}" for number in range(8)],
            [5, 10],
            range(10),
            [f"TCGA_{number:04d}" for number in range(33)],
        ],
        names=["method", "n_train", "split", "subject"],
    )
    scores = pd.DataFrame(index=cells).reset_index().assign(seed=0, **{"class": "tumour"})
    for name in ("dsc", "iou", "hd95", "own_grid_dsc", "volume_true", "volume_predicted"):
        scores[name] = rng.random(len(scores))
    scores = scores.assign(distance_unit="mm", volume_unit="ml")
    history = pd.DataFrame({"step": range(500), **{name: rng.random(500) for name in ("loss", "data_term", "kl")}})
    histories = dict.fromkeys(scores.groupby(["method", "n_train", "split", "seed"]).groups, history)
    assert len(histories) == 160
    timings = scores[["method", "n_train"]].drop_duplicates().assign(train_seconds=1.0, peak_memory_mb=1.0)
    charts = {
        "size": dsc_against_train_size(scores),
        "distribution": score_distribution(scores),
        "curves": training_curves(histories),
    }
    page = report_of(scores, reference="method_0", figures=charts, timings=timings)
    assert len(page.encode()) < 8e6
