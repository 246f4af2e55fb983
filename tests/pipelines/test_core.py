"""What is said of a training's results."""

from __future__ import annotations

import pytest

from dwp_kedro.pipelines.core import warn_of_collapse
from dwp_kedro.training.loop import History


@pytest.mark.parametrize(("curve", "warned"), [([0.4, 0.0], True), ([0.0, 0.02], False), ([0.5, 1e-8], True)])
def test_a_training_that_ends_in_finding_nothing_is_warned_of(
    caplog: pytest.LogCaptureFixture, curve: list[float], warned: bool
):
    warn_of_collapse(History("cpu", "32-true", [{"train_dsc": dsc} for dsc in curve]), "target ri n5")
    assert ("target ri n5: the training ended in a network that finds next to nothing" in caplog.text) == warned


@pytest.mark.parametrize(("least", "warned"), [(0.0, True), (0.4, False)])
def test_of_networks_side_by_side_one_that_finds_nothing_is_warned_of(
    caplog: pytest.LogCaptureFixture, least: float, warned: bool
):
    row = {"train_dsc": 0.45, "least_train_dsc": least}
    warn_of_collapse(History("cpu", "32-true", [row]), "target dwp_mix n5")
    assert (
        "target dwp_mix n5: the training ended in a network that finds next to nothing" in caplog.text
    ) == warned
