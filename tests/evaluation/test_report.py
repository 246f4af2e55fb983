from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dwp_kedro.evaluation.figures import dsc_against_train_size
from dwp_kedro.evaluation.report import build_report

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
        "facts": {"Source cohort": {"description": "heads & <plaques>", "subjects": "16"}},
        "command": "kedro run --env test --params 'a<b'",
        "figures": {"DSC": dsc_against_train_size(scores), "Slices <1>": Figure(figsize=(1, 1))},
        "timings": pd.DataFrame({"method": ["ri", "dwp"], "n_train": 5, "train_seconds": [12.0, 3456.0]}),
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


def test_the_numbers_are_there(report: str) -> None:
    body = re.sub(r"\s+", " ", body_of(report))
    assert '<td>0.51 (0.01)</td> <td class="best">0.63 (0.01)</td>' in body  # DSC
    assert '<td>0.26 (0.01)</td> <td class="best">0.32 (0.01)</td>' in body  # IoU
    assert '<td>9.8 (0.3)</td> <td class="best">7.4 (0.3)</td>' in body  # HD95: the smaller is the better
    assert '<td>0.13 (0.00)</td> <td class="best">0.16 (0.00)</td>' in body  # own grid
    assert "<td>dwp − ri</td> <td>3</td> <td>+0.120</td> <td>0</td> <td>0.25</td> <td>0.25</td>" in body
    assert "<td>2 of 6</td> <td>0 of 6</td>" in body
    assert "<td>12</td> <td>3,456</td>" in body
    assert "<td>32.12</td>" in body
    assert "<dd>2.13.0</dd>" in body
    assert "Distances are in voxel, volumes in voxel, because" in body


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


def test_unequal_splits_and_a_missing_reference_are_said(scores: pd.DataFrame) -> None:
    partly = scores[(scores["method"] == "ri") | (scores["split"] == 0)]
    assert "same number of splits" in report_of(partly)
    assert "same number of splits" not in report_of(scores)
    assert "dwp has no scores" in report_of(scores[scores["method"] == "ri"])
