from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dwp_kedro.evaluation.figures import METHOD_COLOURS
from dwp_kedro.evaluation.training_curves import MOST_POINTS, training_curves


def history(values: list[float], **more: list[float | None]) -> pd.DataFrame:
    return pd.DataFrame({"step": 10 * np.arange(len(values)), "loss": values, "learning_rate": 1e-3, **more})


def test_a_line_is_the_mean_as_far_as_all_cells_trained() -> None:
    figure = training_curves(
        {
            ("ri", 5, 0, 0): history([1.0, 0.5, 0.25]),
            ("ri", 5, 1, 1): history([3.0, 1.5]),
            ("ri", 10, 0, 0): history([1.0, 0.0]),
            ("dwp", 5, 0, 0): history([2.0, 1.0, 0.5], kl=[3.0, None, 1.0]),
        }
    )
    assert [note.text for note in figure.layout.annotations] == ["n = 5", "n = 10"]
    assert [figure.layout[f"yaxis{row}"].title.text for row in ("", 3, 5)] == ["loss", "learning rate", "kl"]
    assert figure.layout.yaxis3.type == "log"
    lines = {(trace.name, trace.xaxis): trace for trace in figure.data}
    mean = lines["ri", "x"]
    assert list(mean.x) == [0, 10]
    assert list(mean.y) == [2.0, 1.0]
    thin = lines["ri, single cells", "x"]
    assert list(thin.x) == [0, 10, 20, 20] * 2
    assert np.array_equal(thin.y, np.array([1.0, 0.5, 0.25, np.nan, 3.0, 1.5, np.nan, np.nan]), equal_nan=True)
    assert ("ri, single cells", "x2") not in lines, "one cell is its own mean"
    kl = lines["dwp", "x5"]
    assert (list(kl.x), list(kl.y)) == ([0, 20], [3.0, 1.0])
    assert kl.line.color == METHOD_COLOURS["dwp"]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["ri", "dwp"]


def test_a_long_training_is_thinned_to_its_ends_and_what_lies_evenly_between() -> None:
    long = history(np.linspace(1, 0, 1001).tolist())
    loss = training_curves({("ri", 5, 0, 0): long}).data[0]
    assert len(loss.x) == MOST_POINTS
    assert (loss.x[0], loss.x[-1]) == (0, 10_000)
    assert max(np.diff(loss.x)) <= 130
    assert np.asarray(loss.y) == pytest.approx(1 - np.asarray(loss.x) / 10_000, abs=1e-6)


def test_a_whole_grid_stays_small() -> None:
    long = history(np.random.default_rng(0).random(500).tolist(), data_term=[0.5] * 500, kl=[1.0] * 500)
    cells = {
        (f"method_{number}", n_train, split, split): long
        for number in range(10)
        for n_train in (5, 10)
        for split in range(10)
    }
    figure = training_curves(cells)
    assert len(figure.data) == 10 * 2 * 4 * 2, "a mean and one line with gaps per method, size and curve"
    assert len(figure.to_json()) < 2.5e6
