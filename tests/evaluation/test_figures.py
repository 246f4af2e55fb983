from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dwp_kedro.evaluation import figures


def table(*rows: tuple[str, int, int, str, float]) -> pd.DataFrame:
    scores = pd.DataFrame(rows, columns=["method", "n_train", "split", "subject", "dsc"])
    return scores.assign(**{"class": "tumour"}, seed=0)


@pytest.fixture
def scores() -> pd.DataFrame:
    return table(
        ("dwp", 5, 0, "a", 0.5),
        ("dwp", 5, 1, "b", 0.7),
        ("dwp", 10, 0, "a", 0.8),
        ("mine", 5, 0, "<i>a</i>", 0.3),
        ("ri", 5, 0, "a", 0.4),
        ("ri", 10, 0, "a", 0.6),
    )


def test_methods_keep_their_colours_whatever_else_is_shown() -> None:
    few, many = (
        figures.method_colours(["dwp", "ri"]),
        figures.method_colours(["new", "prf", "ri", "pr", "dwp"]),
    )
    assert few["dwp"] == many["dwp"]
    assert few["ri"] == many["ri"]
    assert len(set(many.values())) == 5
    assert figures.TRUTH_COLOUR not in many.values()
    assert set(figures.METHOD_COLOURS.values()).isdisjoint(figures.OTHER_COLOURS)


def test_lines_against_train_size_hold_means_and_intervals_over_draws(scores: pd.DataFrame) -> None:
    figure = figures.dsc_against_train_size(scores)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert list(lines) == ["ri", "dwp", "mine"]
    assert list(lines["dwp"].y) == pytest.approx([0.6, 0.8])
    halves = list(lines["dwp"].error_y.array)
    # Of 0.5 and 0.7: s/√2 = 0.1 and t(0.975, 1) = tan(0.475·π); of one draw, none.
    assert halves[0] == pytest.approx(0.1 * np.tan(0.475 * np.pi))
    assert np.isnan(halves[1])
    assert [round(x) for x in lines["dwp"].x] == [5, 10]
    points = next(trace for trace in figure.data if trace.name == "dwp, single draws")
    assert sorted(points.y) == pytest.approx([0.5, 0.7, 0.8])
    assert lines["dwp"].line.color == points.marker.color == figures.METHOD_COLOURS["dwp"]
    assert lines["dwp"].marker.symbol == points.marker.symbol != lines["ri"].marker.symbol
    assert list(figure.layout.xaxis.tickvals) == [5, 10]
    # The interval of two draws, ±1.3 here, must not flatten everything else.
    assert (figure.layout.yaxis.minallowed, figure.layout.yaxis.maxallowed) == (-0.02, 1.02)


def test_eleven_methods_stay_apart(scores: pd.DataFrame) -> None:
    many = pd.concat([scores.assign(method=f"m{number}") for number in range(7)] + [scores])
    figure = figures.dsc_against_train_size(many)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers" and len(trace.x) == 2]
    assert len({line.line.color for line in lines}) == len(lines) == 9
    assert max(line.x[0] for line in lines) < min(line.x[1] for line in lines)


def test_pairs_are_means_over_the_draws_that_both_methods_have(scores: pd.DataFrame) -> None:
    again = table(("dwp", 5, 2, "a", 0.9), ("ri", 5, 2, "a", 0.1), ("ri", 5, 3, "a", 1.0))
    figure = figures.paired_scores(pd.concat([scores, again]), "dwp")
    points = {(trace.name, trace.xaxis): trace for trace in figure.data if trace.mode == "markers"}
    assert set(points) == {("ri", "x"), ("mine", "x"), ("ri", "x2")}
    assert (*points["ri", "x"].x, *points["ri", "x"].y) == (0.25, 0.7)  # draws 0 and 2; 1 and 3 have no partner
    assert (*points["ri", "x2"].x, *points["ri", "x2"].y) == (0.6, 0.8)
    assert len(points["mine", "x"].x) == 0  # another subject


def test_pairs_stand_two_abreast(scores: pd.DataFrame) -> None:
    three = pd.concat([scores, scores[scores["n_train"] == 10].assign(n_train=20)])
    layout = figures.paired_scores(three, "dwp").layout
    assert layout.xaxis.domain == layout.xaxis3.domain != layout.xaxis2.domain
    assert layout.yaxis.domain == layout.yaxis2.domain
    assert layout.yaxis.domain[0] > layout.yaxis3.domain[1]
    assert layout.height == 880


def test_one_train_size_is_drawn_inside_the_axis(scores: pd.DataFrame) -> None:
    figure = figures.dsc_against_train_size(scores[scores["n_train"] == 5])
    low, high = figure.layout.xaxis.range
    assert all(low < x < high for trace in figure.data for x in trace.x)


def test_distribution_has_a_box_per_method_and_size_with_every_subject_once(scores: pd.DataFrame) -> None:
    again = table(("dwp", 5, 1, "a", 0.9), ("dwp", 5, 2, "a", 0.4))
    figure = figures.score_distribution(pd.concat([scores, again, again.assign(seed=1)]))
    assert [(box.name, box.xaxis) for box in figure.data] == [
        (method, axis) for axis in ("x", "x2") for method in ("ri", "dwp", "mine")
    ]
    assert list(figure.data[1].y) == [0.6, 0.7]  # (0.5 + 0.9 + 0.4) / 3
    assert list(figure.data[1].customdata[0]) == ["a", 3, 0.4, 0.9]
    assert [note.text for note in figure.layout.annotations] == ["n = 5", "n = 10"]
    assert figure.data[2].customdata[0][0] == "&lt;i&gt;a&lt;/i&gt;"


def test_many_boxes_stand_below_one_another(scores: pd.DataFrame) -> None:
    many = pd.concat([scores.assign(method=f"m{number}") for number in range(9)])
    figure = figures.score_distribution(many)
    tops = [figure.layout[axis].domain[1] for axis in ("yaxis", "yaxis2")]
    assert tops[0] > tops[1]
    assert figure.layout.xaxis.domain == figure.layout.xaxis2.domain


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_slices_show_the_fullest_slice_in_radiological_view_with_each_methods_score() -> None:
    image = np.zeros((16, 20, 8), np.float32)
    image[2, 5, 3] = 1.0
    truth = np.zeros(image.shape, np.uint8)
    truth[2:6, 5:8, 3] = 1
    truth[2:4, 5:7, 6] = 1
    empty = np.zeros_like(truth)
    scores = table(("ri", 5, 0, "a$b", 0.0), ("dwp", 5, 0, "a$b", 0.876))
    figure = figures.segmentation_slices(
        scores,
        {"a$b": lambda: image},
        {"a$b": truth},
        {"dwp": {"a$b": lambda: truth}, "ri": {"a$b": empty}},
        {"best": "a$b"},
        spacing=(1.0, 2.0, 5.0),
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "truth", "ri, DSC 0.00", "dwp, DSC 0.88"]
    picture = figure.axes[0].images[0]
    shown = np.asarray(picture.get_array())
    assert shown.shape == (20, 16)
    assert np.argwhere(shown).tolist() == [[5, 13]]  # x = 2 of 0…15 stands on the other side
    assert figure.axes[0].get_aspect() == 2.0
    assert [len(axes.collections) for axes in figure.axes] == [0, 1, 1, 2]
    outline = np.asarray(figure.axes[3].collections[-1].get_paths()[0].vertices)
    assert outline.min(axis=0).tolist() == [9.5, 4.5]  # x 2…5 mirrored is 10…13
    assert outline.max(axis=0).tolist() == [13.5, 7.5]
    assert png(figure).startswith(b"\x89PNG")


def test_kernels_share_one_symmetric_scale_and_show_their_three_slices() -> None:
    real = np.arange(2 * 27, dtype=np.float32).reshape(2, 3, 3, 3) - 27
    samples = np.full((5, 3, 3, 3), 1000.0, np.float32)
    figure = figures.kernel_figure(real, samples, "group 1")
    left, right = figure.axes[:2]
    assert (len(left.images), len(right.images)) == (2, 5)
    assert {image.get_clim() for axes in (left, right) for image in axes.images} == {(-1000.0, 1000.0)}
    drawn = np.asarray(left.images[1].get_array())
    assert np.array_equal(drawn, np.concatenate([real[1, 0], real[1, 1], real[1, 2]], axis=1))
    assert png(figure).startswith(b"\x89PNG")
