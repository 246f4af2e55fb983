from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dwp_kedro.evaluation.figures import dsc_against_train_size, score_distribution
from dwp_kedro.evaluation.report import build_report
from dwp_kedro.evaluation.training_curves import training_curves

EVIL = "<script>alert('x')</script>"


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
        "figures": {"DSC": dsc_against_train_size(scores), "Slices <1>": Figure(figsize=(1, 1))},
        "timings": pd.DataFrame(
            {
                "method": ["ri", "dwp"],
                "n_train": [5, 10],
                "train_seconds": [12.0, 3456.0],
                "peak_memory_mb": [512.0, 1024.0],
            }
        ),
        "versions": {"torch": "2.13.0"},
        "notice": None,
        "further_tables": {"Prior": pd.DataFrame({"heldout_nelbo": [32.125]}, index=pd.Index([1], name="group"))},
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
    assert "<td>32.12</td>" in body
    assert "<dd>2.13.0</dd>" in body
    assert "Distances are in voxel, volumes in voxel, because" in re.sub(r"\s+", " ", body)


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


def test_cases_are_sorted_and_say_which_is_which(report: str) -> None:
    body = body_of(report)
    worst, best = body[body.index("Worst cases") :].split("Best cases")
    order = re.findall(r'<th scope="row">(.*?)</th>', worst)
    assert order == ["&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;", "c", "b"]
    assert re.findall(r'<th scope="row">(.*?)</th>', best)[:3] == order[::-1]


def test_data_cannot_become_markup(report: str) -> None:
    assert EVIL not in report
    assert "heads &amp; &lt;plaques&gt;" in report
    assert "&#39;a&lt;b&#39;" in report
    assert "Slices &lt;1&gt;" in report


class Loads(HTMLParser):
    """Collects what the page would load when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_loads_nothing_from_outside(report: str) -> None:
    loads = Loads()
    loads.feed(report)
    assert loads.found
    assert all(found.startswith("data:image/png;base64,") for found in loads.found)
    assert "@import" not in body_of(report)
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
