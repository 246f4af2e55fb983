from __future__ import annotations

import math
import threading

import pytest
import torch
from torch import nn

from dwp_kedro.progress import listening
from dwp_kedro.training import loop
from dwp_kedro.training.loop import History, TrainingError, make_fabric, train
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute, Schedule

COSINE = Schedule(kind="cosine", learning_rate=0.05, max_steps=24)
PLATEAU = Schedule(learning_rate=0.05, patience=0, max_epochs=8)
CONSTANT = Schedule(kind="constant", learning_rate=0.05, max_steps=24)


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


class Jitter:
    """Adds noise to the first tensor of a batch."""

    def __init__(self, size: float = 0.1) -> None:
        self.size = size

    def __call__(self, batch, seed):
        x, y = batch
        return x + self.size * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)), y

    def settings(self):
        return {"size": self.size}


class Watcher:
    """Adds up the steps it sees, each with its weight of then."""

    def __init__(self, objective: Regression, name: str = "watcher") -> None:
        self.objective, self.name = objective, name
        self.sum, self.steps = torch.zeros(3), torch.zeros(0)

    def after_step(self, step):
        self.sum = self.sum + step * self.objective.weight.detach()
        self.steps = torch.cat([self.steps, torch.tensor([float(step)])])

    def state_dict(self):
        return {"sum": self.sum, "a/steps": self.steps}

    def load_state_dict(self, state):
        self.sum, self.steps = state["sum"], state["a/steps"]

    def settings(self):
        return {"name": self.name}


def _background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


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


def test_a_training_is_plain_epochs_of_adam():
    """Order and noise come from their own generators, one after the other: the loop written out gives the bits."""
    objective, plain = Regression(), Regression()
    _train(objective, seed=5, schedule=CONSTANT)
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.05)
    order, noise = make_generator(5, "order"), make_generator(5, "noise")
    x, y = _data()
    for _ in range(8):
        for rows in torch.randperm(10, generator=order).split(4):
            optimiser.zero_grad()
            plain(x[rows], y[rows], step=0, generator=noise)["loss"].backward()
            optimiser.step()
    assert torch.equal(objective.weight, plain.weight)


@pytest.mark.parametrize("transform", [None, Jitter()])
@pytest.mark.parametrize("schedule", [COSINE, PLATEAU, CONSTANT])
@pytest.mark.parametrize("killed_at", [5, 14, 21])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, schedule, killed_at, transform):
    whole = Regression()
    expected = _train(whole, schedule=schedule, transform=transform)
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(killed_at)), pytest.raises(KilledError):
        _train(Regression(), schedule=schedule, compute=compute, transform=transform)
    resumed = Regression()
    found = _train(resumed, schedule=schedule, compute=compute, transform=transform)
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


def test_the_state_of_another_transform_or_observer_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    observed = Regression()
    for options in (
        {"transform": Jitter(0.2)},
        {"observer": Watcher(observed, "another")},
        {},
    ):
        with listening(KillAt(14)), pytest.raises(KilledError):
            _train(Regression(), compute=compute, **options)
        fresh, resumed = Regression(), Regression()
        expected = _train(fresh, transform=Jitter(), observer=Watcher(fresh))
        watcher = Watcher(resumed)
        assert _train(resumed, compute=compute, transform=Jitter(), observer=watcher).rows == expected.rows
        assert len(watcher.steps) == 24


def test_a_transform_changes_what_is_learnt_and_not_the_data():
    data, objectives = _data(), [Regression() for _ in range(3)]
    kept = [tensor.clone() for tensor in data]
    for objective, transform in zip(objectives, (None, Jitter(0.0), Jitter()), strict=True):
        settings = {"task": "task", "batch_size": 4, "schedule": COSINE, "seed": 0}
        train(objective, data, compute=Compute(device="cpu"), transform=transform, **settings)
    assert torch.equal(objectives[0].weight, objectives[1].weight), "order and noise do not depend on it"
    assert not torch.equal(objectives[0].weight, objectives[2].weight)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(data, kept, strict=True))


@pytest.mark.parametrize("error", [KilledError, KeyboardInterrupt])
def test_the_background_thread_ends_with_the_training(error):
    class Interrupted(Regression):
        def forward(self, x, y, *, step, generator):
            assert _background_threads(), "batches are made in a thread of their own"
            if step == 4:
                raise error
            return super().forward(x, y, step=step, generator=generator)

    with pytest.raises(error):
        _train(Interrupted(), transform=Jitter())
    assert _background_threads() == []
    _train(Regression(), transform=Jitter())
    assert _background_threads() == []


def test_an_error_in_the_transform_ends_the_training():
    class Broken(Jitter):
        def __call__(self, batch, seed):
            raise ZeroDivisionError("in the transform")

    with pytest.raises(ZeroDivisionError, match="in the transform"):
        _train(Regression(), transform=Broken())
    assert _background_threads() == []


@pytest.mark.parametrize("killed_at", [1, 5, 21])
def test_an_observer_sees_every_step_once_and_keeps_what_it_saw(tmp_path, killed_at):
    whole = Regression()
    expected = Watcher(whole)
    _train(whole, observer=expected)
    assert expected.steps.tolist() == [float(step) for step in range(1, 25)]
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    killed, resumed = Regression(), Regression()
    with listening(KillAt(killed_at)), pytest.raises(KilledError):
        _train(killed, compute=compute, observer=Watcher(killed))
    found = Watcher(resumed)
    _train(resumed, compute=compute, observer=found)
    assert torch.equal(found.steps, expected.steps)
    assert torch.equal(found.sum, expected.sum)


def test_the_precision_auto_is_the_best_for_the_device(monkeypatch):
    asked = []

    def resolve(precision, device, shape):
        asked.append((precision, device, shape))
        return "32-true" if precision == "32-true" else "bf16-mixed"

    monkeypatch.setattr(loop, "resolve_precision", resolve)
    auto = Compute(device="cpu", precision="auto")
    assert make_fabric(auto, (2, 3)).strategy.precision.precision == "bf16-mixed"
    assert asked == [("auto", torch.device("cpu"), (2, 3))]
    assert _train(Regression(), compute=auto).precision == "bf16-mixed"
    assert _train(Regression(), compute=Compute(device="cpu")).precision == "32-true"


def test_a_state_is_taken_up_by_the_precision_it_was_made_in(tmp_path, monkeypatch):
    kept = {"device": "cpu", "state_folder": tmp_path, "state_every_seconds": 0}
    for best, first_step in (("32-true", 13), ("bf16-mixed", 1)):
        monkeypatch.setattr(
            loop, "resolve_precision", lambda asked, *_, best=best: best if asked == "auto" else asked
        )
        with listening(KillAt(14)), pytest.raises(KilledError):
            _train(Regression(), compute=Compute(**kept))
        steps = []

        class Watching(Regression):
            def forward(self, x, y, *, step, generator):
                steps.append(step + 1)  # noqa: B023
                return super().forward(x, y, step=step, generator=generator)

        _train(Watching(), compute=Compute(**kept, precision="auto"))
        assert steps[0] == first_step


def test_a_constant_rate_stays_to_the_step_asked_for():
    history = _train(
        Regression(), schedule=Schedule(kind="constant", learning_rate=0.01, max_steps=10, max_epochs=1)
    )
    assert [row["learning_rate"] for row in history.rows] == [0.01] * 4
    assert history.rows[-1]["step"] == 10


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


class Halves:
    """Cuts rows of any length to their first three entries."""

    def __call__(self, batch, seed):
        x, y = batch
        return torch.stack([row[:3] for row in x]), torch.stack(list(y))

    def settings(self):
        return {}


def test_rows_of_different_sizes_train_like_what_a_transform_makes_of_them(monkeypatch):
    shapes = []
    resolve = loop.resolve_precision
    monkeypatch.setattr(loop, "resolve_precision", lambda *given: shapes.append(given[2]) or resolve(*given))
    whole, ragged = Regression(), Regression()
    _train(whole)
    x, y = _data()
    rows = [torch.cat([row, torch.full((index,), 9.0)]) for index, row in enumerate(x)]
    settings = {"task": "task", "batch_size": 4, "schedule": COSINE, "seed": 0, "compute": Compute(device="cpu")}
    train(ragged, (rows, y), transform=Halves(), **settings)
    assert torch.equal(whole.weight, ragged.weight)
    assert tuple(shapes[1])[-1] == 3, "the precision is that for what the objective sees"


def test_a_state_of_other_rows_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    x, y = _data()
    settings = {"task": "task", "batch_size": 4, "schedule": COSINE, "seed": 0, "compute": compute}
    with listening(KillAt(14)), pytest.raises(KilledError):
        train(Regression(), ([*x], y), transform=Halves(), **settings)
    changed = [*x[:-1], x[-1] + 1]
    resumed, fresh = Regression(), Regression()
    train(resumed, (changed, y), transform=Halves(), **settings)
    train(fresh, (changed, y), transform=Halves(), **settings)
    assert torch.equal(resumed.weight, fresh.weight)
