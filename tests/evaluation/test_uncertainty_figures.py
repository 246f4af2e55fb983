from __future__ import annotations

import pandas as pd
import pytest

from dwp_kedro.evaluation import uncertainty_figures
from dwp_kedro.evaluation.figures import METHOD_COLOURS
from dwp_kedro.evaluation.uncertainty import BIN_COUNTS, N_BINS, REGION_MARGIN

WORDS = {"ri": "U-Net, random start", "dwp": "U-Net under a prior", "pr": "not drawn"}


def rows_of(method: str, n_train: int, split: int, dsc: list[float], bins: dict[int, tuple[int, float, int]]):
    """Subjects whose uncertainty rises from one to the next, each with the same bins."""
    table = pd.DataFrame(
        {"method": method, "n_train": n_train, "split": split, "seed": 0, "dsc": dsc, "subject": "s"}
    )
    table["uncertainty"] = [0.1 * place for place in range(len(dsc))]
    for number in range(N_BINS):
        for count, value in zip(BIN_COUNTS, bins.get(number, (0, 0.0, 0)), strict=True):
            table[f"{count}_bin{number}"] = value
    return table


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.concat(
        [
            rows_of("ri", 5, 0, [0.9, 0.6, 0.3], {8: (100, 85.0, 50), 1: (3, 0.5, 3)}),
            rows_of("ri", 5, 1, [0.5, 0.5, 0.5], {8: (300, 255.0, 250), 0: (400, 4.0, 0)}),
            rows_of("dwp", 5, 0, [0.8], {5: (100, 55.0, 55)}),
            rows_of("dwp", 10, 0, [0.8, 0.1], {5: (100, 55.0, 55)}),
        ]
    )


def test_those_kept_are_the_most_certain(rows: pd.DataFrame) -> None:
    shuffled = rows[(rows["method"] == "ri") & (rows["split"] == 0)].iloc[[2, 0, 1]]
    curve = uncertainty_figures.review_curve(shuffled)
    # A third of three is set aside from 34 % on, two thirds from 67 % on.
    assert list(curve) == pytest.approx([0.6] * 4 + [0.75] * 3 + [0.9] * 2)
    assert list(curve.index) == list(range(0, 90, 10))


def test_review_curves_are_averaged_over_draws(rows: pd.DataFrame) -> None:
    curve = uncertainty_figures.mean_review_curve(rows[rows["method"] == "ri"])
    assert curve[0] == pytest.approx((0.6 + 0.5) / 2)
    assert curve[80] == pytest.approx((0.9 + 0.5) / 2)


def test_reliability_pools_voxels_and_leaves_out_bins_of_a_few(rows: pd.DataFrame) -> None:
    figure = uncertainty_figures.uncertainty_figure(rows, WORDS)
    lines = [trace for trace in figure.data if trace.xaxis == "x" and trace.name == "ri"]
    assert len(lines) == 1
    assert list(lines[0].x) == pytest.approx([0.01, 0.85])
    assert list(lines[0].y) == pytest.approx([0.0, 900 / 1200])
    assert list(lines[0].customdata) == pytest.approx([0.5, 0.5])
    assert lines[0].line.color == METHOD_COLOURS["ri"]


def test_the_figure_has_two_panels_per_size_and_each_method_once_in_the_legend(rows: pd.DataFrame) -> None:
    figure = uncertainty_figures.uncertainty_figure(rows, WORDS)
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["ri", "dwp"]
    assert {trace.xaxis for trace in figure.data} == {"x", "x2", "x3", "x4"}
    texts = [note.text for note in figure.layout.annotations]
    assert sum("n = 5" in text for text in texts) == sum("n = 10" in text for text in texts) == 2
    assert any(f"within {REGION_MARGIN} voxels of the true" in text.replace("<br>", " ") for text in texts)
    note = texts[-1].replace("<br>", " ")
    assert note.endswith("<b>ri:</b> U-Net, random start. <b>dwp:</b> U-Net under a prior.")
    random = [trace for trace in figure.data if trace.xaxis == "x2" and trace.line.dash == "dot"]
    assert [list(trace.y) for trace in random] == [pytest.approx([0.55] * 2), pytest.approx([0.8] * 2)]


def test_review_panels_share_the_scale_of_the_first_which_follows_none(rows: pd.DataFrame) -> None:
    layout = uncertainty_figures.uncertainty_figure(rows, WORDS).layout
    assert [layout[f"yaxis{number}"].matches for number in ("", 2, 3, 4)] == [None, None, None, "y2"]


def test_a_method_first_run_at_a_larger_size_is_in_the_legend() -> None:
    rows = pd.concat([rows_of("ri", 5, 0, [0.5], {}), rows_of("dwp", 10, 0, [0.5], {})])
    figure = uncertainty_figures.uncertainty_figure(rows, WORDS)
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["ri", "dwp"]
