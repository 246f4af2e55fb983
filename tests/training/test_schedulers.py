from __future__ import annotations

import pytest
import torch
from regression import COSINE, Regression, TwoRates, train_regression

from dwp_kedro.training.settings import Schedule


def test_a_constant_rate_stays_to_the_step_asked_for():
    history = train_regression(
        Regression(), schedule=Schedule(kind="constant", learning_rate=0.01, max_steps=10, max_epochs=1)
    )
    assert [row["learning_rate"] for row in history.rows] == [0.01] * 4
    assert history.rows[-1]["step"] == 10


def test_the_schedule_reads_the_data_term_not_the_loss():
    """A loss that rises all the time would lower the rate at once, if it were read."""
    plateau = Schedule(learning_rate=0.01, patience=2, max_epochs=6)
    history = train_regression(Regression(extra=1.0), schedule=plateau)
    assert [row["learning_rate"] for row in history.rows] == [0.01] * 6
    assert history.rows[-1]["loss"] > history.rows[0]["loss"]


def test_a_plateau_lowers_the_rate_and_ends_the_training():
    class Flat(Regression):
        def forward(self, x, y, *, step, generator):
            return {"loss": self.weight.sum() * 0 + 1, "data_term": torch.tensor(1.0)}

    schedule = Schedule(learning_rate=1e-3, factor=0.1, patience=2, min_learning_rate=1e-5, max_epochs=100)
    history = train_regression(Flat(), schedule=schedule)
    # The first epoch is the best so far; each rate then lasts patience + 1 epochs.
    assert len(history.rows) == 1 + 3 + 3
    assert history.rows[-1]["learning_rate"] == pytest.approx(1e-4)
    assert history.rows[3]["learning_rate"] == pytest.approx(1e-3)
    assert history.rows[4]["learning_rate"] == pytest.approx(1e-4)


def test_a_plateau_of_a_negative_data_term_is_seen():
    """A share of the best value would let a data term that slowly rises pass for progress."""

    class Rising(Regression):
        def forward(self, x, y, *, step, generator):
            value = torch.tensor(-50.0 + 0.001 * step)
            return {"loss": self.weight.sum() * 0 + value, "data_term": value}

    schedule = Schedule(learning_rate=1e-3, factor=0.1, patience=2, min_learning_rate=1e-5, max_epochs=100)
    assert len(train_regression(Rising(), schedule=schedule).rows) == 1 + 3 + 3


def test_the_cosine_is_not_cut_by_epochs():
    schedule = Schedule(kind="cosine", max_steps=9, max_epochs=1)
    assert train_regression(Regression(), schedule=schedule).rows[-1]["step"] == 9


def test_the_cosine_ends_at_the_smallest_rate_and_the_step_asked_for():
    history = train_regression(Regression())
    assert history.rows[-1]["step"] == 24
    assert history.rows[-1]["learning_rate"] == pytest.approx(COSINE.min_learning_rate, rel=1e-3)


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
def test_a_parameter_with_a_rate_of_its_own_moves_by_that_multiple(kind):
    """Adam's first step is the learning rate, whatever the gradient."""
    objective = TwoRates()
    schedule = Schedule(kind=kind, learning_rate=1e-3, max_steps=1, max_epochs=1)
    history = train_regression(objective, schedule=schedule)
    torch.testing.assert_close(objective.weight.detach().abs(), torch.full((3,), 1e-3), rtol=1e-4, atol=0)
    torch.testing.assert_close(objective.intercept.detach().abs(), torch.tensor([1e-2]), rtol=1e-4, atol=0)
    expected = {"constant": 1e-3, "cosine": schedule.min_learning_rate, "plateau": 1e-3}[kind]
    assert history.rows[-1]["learning_rate"] == pytest.approx(expected)


def test_on_a_plateau_all_rates_fall_together():
    class Flat(TwoRates):
        def forward(self, x, y, *, step, generator):
            return {"loss": (self.weight.sum() + self.intercept).sum(), "data_term": torch.tensor(1.0)}

    objective = Flat()
    schedule = Schedule(learning_rate=1e-3, factor=0.1, patience=2, min_learning_rate=1e-5, max_epochs=100)
    history = train_regression(objective, schedule=schedule)
    assert history.rows[-1]["step"] == 3 * 7
    # Under a constant gradient every step of Adam is its learning rate.
    torch.testing.assert_close(objective.weight.detach(), torch.full((3,), -(12e-3 + 9e-4)), rtol=1e-4, atol=0)
    torch.testing.assert_close(objective.intercept.detach(), 10 * objective.weight.detach()[:1], rtol=1e-4, atol=0)


def test_along_a_cosine_a_multiple_of_the_rate_moves_a_multiple_as_far():
    class Flat(TwoRates):
        def forward(self, x, y, *, step, generator):
            return {"loss": (self.weight.sum() + self.intercept).sum(), "data_term": torch.tensor(1.0)}

    objective = Flat()
    train_regression(objective, schedule=Schedule(kind="cosine", learning_rate=1e-3, max_steps=30))
    # Under a constant gradient every step of Adam is its learning rate; a cosine's mean is half of the first.
    assert objective.weight[0].item() == pytest.approx(-30 * 5e-4, rel=0.05)
    torch.testing.assert_close(objective.intercept.detach(), 10 * objective.weight.detach()[:1], rtol=2e-3, atol=0)
