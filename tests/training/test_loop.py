from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dwp_kedro.progress import listening
from dwp_kedro.training.loop import History, TrainingError, train
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.settings import Compute, Schedule

COSINE = Schedule(kind="cosine", learning_rate=0.05, max_steps=24)


class Regression(Objective):
    """Noisy linear regression whose loss and data term differ by a constant."""

    def __init__(self, extra: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.extra = extra

    def settings(self):
        return {"extra": self.extra}

    def forward(self, x, y, *, step, generator):
        noise = 0.1 * torch.randn(len(x), generator=generator)
        data_term = (x @ self.weight + noise - y).square().mean()
        return {"loss": data_term + self.extra * step, "data_term": data_term.detach()}


def _data():
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([1.0, -2.0, 0.5])


def _train(objective, *, seed=0, schedule=COSINE, compute=None, **options) -> History:
    settings = {"task": "task", "batch_size": 4, "schedule": schedule, "seed": seed, **options}
    return train(objective, _data(), compute=compute or Compute(device="cpu"), **settings)


class KilledError(Exception):
    pass


class KillAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def on_progress(self, task, completed, total, metrics):
        if completed == self.step:
            raise KilledError

    def on_metrics(self, metrics, step):
        pass


def test_one_seed_gives_the_same_bits_and_another_seed_others():
    weights = []
    for seed in (0, 0, 1):
        objective = Regression()
        torch.randn(seed + 5)  # the global generator must not matter
        _train(objective, seed=seed)
        weights.append(objective.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("schedule", [COSINE, Schedule(learning_rate=0.05, patience=0, max_epochs=8)])
@pytest.mark.parametrize("killed_at", [5, 14, 21])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, schedule, killed_at):
    whole = Regression()
    expected = _train(whole, schedule=schedule)
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(killed_at)), pytest.raises(KilledError):
        _train(Regression(), schedule=schedule, compute=compute)
    resumed = Regression()
    found = _train(resumed, schedule=schedule, compute=compute)
    assert torch.equal(whole.weight, resumed.weight)
    assert found.rows == expected.rows
    assert list(tmp_path.iterdir()) == [], "a finished training leaves no state behind"


def test_the_state_of_another_training_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(14)), pytest.raises(KilledError):
        _train(Regression(), seed=7, compute=compute)
    resumed, fresh = Regression(), Regression()
    _train(resumed, seed=0, compute=compute)
    _train(fresh, seed=0)
    assert torch.equal(resumed.weight, fresh.weight)


def test_the_state_of_another_objective_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(14)), pytest.raises(KilledError):
        _train(Regression(extra=0.5), compute=compute)
    resumed, fresh = Regression(), Regression()
    history = _train(resumed, compute=compute)
    assert history.rows == _train(fresh).rows


def test_the_schedule_reads_the_data_term_not_the_loss():
    """A loss that rises all the time would lower the rate at once, if it were read."""
    plateau = Schedule(learning_rate=0.01, patience=2, max_epochs=6)
    history = _train(Regression(extra=1.0), schedule=plateau)
    assert [row["learning_rate"] for row in history.rows] == [0.01] * 6
    assert history.rows[-1]["loss"] > history.rows[0]["loss"]


def test_a_plateau_lowers_the_rate_and_ends_the_training():
    class Flat(Regression):
        def forward(self, x, y, *, step, generator):
            return {"loss": self.weight.sum() * 0 + 1, "data_term": torch.tensor(1.0)}

    schedule = Schedule(learning_rate=1e-3, factor=0.1, patience=2, min_learning_rate=1e-5, max_epochs=100)
    history = _train(Flat(), schedule=schedule)
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
    assert len(_train(Rising(), schedule=schedule).rows) == 1 + 3 + 3


def test_rows_may_be_named_twice_or_not_at_all():
    seen = []

    class Watching(Regression):
        def forward(self, x, y, *, step, generator):
            seen.extend(y.tolist())
            return super().forward(x, y, step=step, generator=generator)

    _train(Watching(), rows=[3, 3, 5], schedule=Schedule(kind="cosine", max_steps=1))
    y = _data()[1]
    assert sorted(seen) == sorted(y[[3, 3, 5]].tolist())


def test_the_cosine_is_not_cut_by_epochs():
    schedule = Schedule(kind="cosine", max_steps=9, max_epochs=1)
    assert _train(Regression(), schedule=schedule).rows[-1]["step"] == 9


def test_the_cosine_ends_at_the_smallest_rate_and_the_step_asked_for():
    history = _train(Regression())
    assert history.rows[-1]["step"] == 24
    assert history.rows[-1]["learning_rate"] == pytest.approx(COSINE.min_learning_rate, rel=1e-3)


def test_l2_is_the_penalty_it_says():
    """One plain gradient step, l2·Σw² written out, must move the weights as weight decay does."""
    schedule = Schedule(kind="cosine", learning_rate=1e-3, max_steps=1)

    class Penalised(Regression):
        def forward(self, x, y, *, step, generator):
            terms = super().forward(x, y, step=step, generator=generator)
            return {**terms, "loss": terms["loss"] + 0.3 * self.weight.square().sum()}

    moved = []
    for objective, l2 in ((Penalised(), 0.0), (Regression(), 0.3)):
        with torch.no_grad():
            objective.weight.copy_(torch.tensor([1.0, -3.0, 0.1]))
        _train(objective, schedule=schedule, l2=l2)
        moved.append(objective.weight.detach())
    torch.testing.assert_close(moved[0], moved[1])


def test_frozen_parameters_do_not_move_by_a_bit():
    objective = Regression()
    objective.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    _train(objective, l2=0.1)
    assert torch.equal(objective.frozen, torch.ones(2))


def test_a_loss_that_is_not_finite_stops_with_its_cause():
    class Broken(Regression):
        def forward(self, x, y, *, step, generator):
            terms = super().forward(x, y, step=step, generator=generator)
            return {**terms, "loss": terms["loss"] + (math.nan if step == 3 else 0)}

    with pytest.raises(TrainingError, match=r"task: loss not finite at step 3.*learning_rate"):
        _train(Broken())
