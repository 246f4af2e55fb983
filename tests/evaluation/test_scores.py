from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from dwp_kedro.evaluation.scores import SCORE_COLUMNS, own_grid_dsc, score_cell, score_subject
from dwp_kedro.progress import listening


def cube(start: tuple[int, int, int], side: int, shape: tuple[int, int, int] = (24, 20, 16)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(s, s + side) for s in start)] = 1
    return labels


@pytest.mark.parametrize("shift", [0, 1, 3, 8])
def test_shifted_cubes_have_the_overlap_of_the_closed_form(shift: int) -> None:
    side = 8
    (row,) = score_subject(cube((2 + shift, 2, 2), side), cube((2, 2, 2), side), None, ["tumour"])
    overlap, volume = (side - shift) * side**2, side**3
    assert row["class"] == "tumour"
    assert row["dsc"] == pytest.approx(overlap / volume, rel=1e-6)
    assert row["iou"] == pytest.approx(overlap / (2 * volume - overlap), rel=1e-6)
    assert row["volume_true"] == row["volume_predicted"] == volume
    assert (row["distance_unit"], row["volume_unit"]) == ("voxel", "voxel")


@pytest.mark.parametrize(("axis", "expected"), [(0, 2.0), (1, 4.5), (2, 10.0)])
def test_hausdorff_distance_is_in_mm_along_each_axis(axis: int, expected: float) -> None:
    """A whole face, more than 5 % of the surface, lies exactly ``shift`` voxels off."""
    start = [2, 2, 2]
    start[axis] += 3
    truth, prediction = cube((2, 2, 2), 6), cube((start[0], start[1], start[2]), 6)
    spacing = (2.0 / 3, 1.5, 10.0 / 3)
    (row,) = score_subject(prediction, truth, spacing, ["tumour"])
    assert row["hd95"] == pytest.approx(expected, rel=1e-5)
    (in_voxels,) = score_subject(prediction, truth, None, ["tumour"])
    assert in_voxels["hd95"] == pytest.approx(3.0)
    assert row["distance_unit"] == "mm"


def test_hd95_is_the_percentile_and_not_the_maximum() -> None:
    truth = cube((2, 2, 2), 8)
    prediction = truth.copy()
    prediction[23, 19, 15] = 1  # one voxel far off among the 8³ − 6³ + 1 of the surface
    (row,) = score_subject(prediction, truth, None, ["tumour"])
    assert row["hd95"] == 0.0


def test_volumes_are_in_ml() -> None:
    (row,) = score_subject(cube((1, 1, 1), 5), cube((1, 1, 1), 10), (1.0, 2.0, 4.0), ["tumour"])
    assert row["volume_true"] == pytest.approx(8.0)
    assert row["volume_predicted"] == pytest.approx(1.0)
    assert row["volume_unit"] == "ml"


@pytest.mark.parametrize("spacing", [None, (1.0, 2.0, 5.0)])
@pytest.mark.parametrize("empty", ["prediction", "truth"])
def test_one_empty_map_scores_zero_and_the_grids_diagonal(
    spacing: tuple[float, float, float] | None, empty: str
) -> None:
    maps = [np.zeros((24, 20, 16), np.uint8), cube((3, 3, 3), 4)]
    prediction, truth = maps if empty == "prediction" else maps[::-1]
    (row,) = score_subject(prediction, truth, spacing, ["tumour"])
    sx, sy, sz = spacing or (1.0, 1.0, 1.0)
    assert row["dsc"] == row["iou"] == 0.0
    assert row["hd95"] == pytest.approx(math.sqrt((24 * sx) ** 2 + (20 * sy) ** 2 + (16 * sz) ** 2))


def test_two_empty_maps_agree() -> None:
    empty = np.zeros((8, 8, 8), np.uint8)
    (row,) = score_subject(empty, empty, None, ["tumour"])
    assert (row["dsc"], row["iou"], row["hd95"]) == (1.0, 1.0, 0.0)
    assert own_grid_dsc(empty, empty, 1) == [1.0]


def test_classes_are_scored_one_by_one() -> None:
    truth = cube((0, 0, 0), 4) + 2 * cube((8, 8, 8), 4)
    prediction = cube((0, 0, 0), 4) + 2 * cube((10, 8, 8), 4)
    core, rim = score_subject(prediction, truth, None, ["core", "rim"])
    assert (core["class"], core["dsc"]) == ("core", 1.0)
    assert (rim["class"], rim["dsc"]) == ("rim", 0.5)
    assert own_grid_dsc(prediction, truth, 2) == [1.0, 0.5]


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(8, 8, 8\).*\(8, 8, 9\)"):
        score_subject(np.zeros((8, 8, 8), int), np.zeros((8, 8, 9), int), None, ["tumour"])
    with pytest.raises(ValueError, match="truth holds values other than 0 to 1"):
        own_grid_dsc(cube((0, 0, 0), 2), 2 * cube((0, 0, 0), 2), 1)
    with pytest.raises(ValueError, match="prediction holds values other than 0 to 1"):
        own_grid_dsc(cube((0, 0, 0), 2) * 0.5, cube((0, 0, 0), 2), 1)


class Heard:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def on_progress(self, task: str, completed: int, total: int, metrics: object) -> None:
        self.steps.append((completed, total))

    def on_metrics(self, metrics: object, step: int) -> None:
        raise AssertionError


def test_a_cell_has_a_row_per_subject_and_class_and_loads_one_subject_at_a_time() -> None:
    loaded: list[str] = []

    def truth_of(subject: str) -> np.ndarray:
        loaded.append(subject)
        return cube((0, 0, 0), 4) + 2 * cube((8, 8, 8), 4)

    heard = Heard()
    prediction = cube((0, 0, 0), 4) + 2 * cube((10, 8, 8), 4)
    subjects = ["b", "a"]
    with listening(heard):
        table = score_cell(
            method="dwp",
            n_train=5,
            split=1,
            seed=0,
            predictions=dict.fromkeys(subjects, prediction),
            truths={s: partial(truth_of, s) for s in ("a", "b", "not tested")},
            own_grid_predictions=dict.fromkeys(subjects, lambda: cube((1, 0, 0), 4) + 2 * cube((8, 8, 8), 4)),
            own_grid_truths=dict.fromkeys(subjects, cube((0, 0, 0), 4) + 2 * cube((8, 8, 8), 4)),
            spacings={"a": (1.0, 1.0, 1.0), "b": lambda: (10.0, 10.0, 10.0)},
            class_names=["core", "rim"],
        )
    assert list(table.columns) == SCORE_COLUMNS
    assert loaded == subjects
    assert heard.steps == [(0, 2), (1, 2), (2, 2)]
    assert table["subject"].tolist() == ["b", "b", "a", "a"]
    assert table["class"].tolist() == ["core", "rim", "core", "rim"]
    assert table["dsc"].tolist() == [1.0, 0.5, 1.0, 0.5]
    assert table["own_grid_dsc"].tolist() == [0.75, 1.0, 0.75, 1.0]
    assert table["volume_true"].tolist() == pytest.approx([64.0, 64.0, 0.064, 0.064])
    cell = table[["method", "n_train", "split", "seed"]].drop_duplicates()
    assert cell.values.tolist() == [["dwp", 5, 1, 0]]


def test_a_cells_errors_name_the_subject() -> None:
    one = {"a": cube((0, 0, 0), 4)}
    arguments = {
        "method": "ri",
        "n_train": 5,
        "split": 0,
        "seed": 0,
        "predictions": one,
        "own_grid_predictions": one,
        "own_grid_truths": one,
        "spacings": None,
        "class_names": ["tumour"],
    }
    with pytest.raises(ValueError, match="no truth for the predicted subjects a"):
        score_cell(**arguments, truths={"b": one["a"]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="subject a: the prediction's grid"):
        score_cell(**arguments, truths={"a": np.zeros((4, 4, 4), int)})  # type: ignore[arg-type]
