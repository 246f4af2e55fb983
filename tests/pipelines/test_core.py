"""What is said of a training's results."""

from __future__ import annotations

import pytest

from dwp_kedro.pipelines.core import warn_of_collapse
from dwp_kedro.training.loop import History


@pytest.mark.parametrize(
    ("curve", "rows", "warned"),
    [
        ("train_dsc", [{"train_dsc": 0.4}, {"train_dsc": 0.0}], True),
        ("train_dsc", [{"train_dsc": 0.0}, {"train_dsc": 0.02}], False),
        ("train_dsc", [{"train_dsc": 0.5}, {"train_dsc": 1e-8}], True),
        ("least_train_dsc", [{"train_dsc": 0.45, "least_train_dsc": 0.0}], True),
        ("least_train_dsc", [{"train_dsc": 0.45, "least_train_dsc": 0.4}], False),
    ],
)
def test_a_training_that_ends_in_finding_nothing_is_warned_of(
    caplog: pytest.LogCaptureFixture, curve: str, rows: list[dict[str, float]], warned: bool
):
    warn_of_collapse(History("cpu", "32-true", rows), "target ri n5")
    assert ("target ri n5: the training ended in a network that finds next to nothing" in caplog.text) == warned
    assert (f"look at its curve {curve}." in caplog.text) == warned
