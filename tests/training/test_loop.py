from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from regression import CONSTANT, COSINE, Halves, Jitter, KilledError, Regression, regression_data, train_regression
from torch import nn

from dwp_kedro.training import loop
from dwp_kedro.training.loop import make_fabric, train
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute, Schedule


def background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_one_seed_gives_the_same_bits_and_another_seed_others():
    weights = []
    for seed in (0, 0, 1):
        objective = Regression()
        torch.randn(seed + 5)  # the global generator must not matter
        train_regression(objective, seed=seed)
        weights.append(objective.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("gradient_norm", [None, 0.5, 1e6])
def test_a_training_is_plain_epochs_of_adam(gradient_norm):
    """Order and noise come from their own generators, one after the other: the loop written out gives the bits.

    Without a largest norm, and with one that no gradient reaches, gradients go to Adam as they are.
    """
    objective, plain = Regression(), Regression()
    history = train_regression(objective, seed=5, schedule=CONSTANT, gradient_norm=gradient_norm)
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.05)
    order, noise = make_generator(5, "order"), make_generator(5, "noise")
    x, y = regression_data()
    norms = []
    for _ in range(8):
        for rows in torch.randperm(10, generator=order).split(4):
            optimiser.zero_grad()
            plain(x[rows], y[rows], step=0, generator=noise)["loss"].backward()
            norms.append(plain.weight.grad.norm().item())
            if gradient_norm == 0.5:
                torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimiser.step()
    assert torch.equal(objective.weight, plain.weight)
    assert max(norms) > 0.5
    # Batches of 4, 4 and 2 rows.
    expected = sum(size * norm for size, norm in zip((4, 4, 2), norms[:3], strict=True)) / 10
    assert history.rows[0]["gradient_norm"] == pytest.approx(expected)


def test_a_transform_changes_what_is_learnt_and_not_the_data():
    data, objectives = regression_data(), [Regression() for _ in range(3)]
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
            assert background_threads(), "batches are made in a thread of their own"
            if step == 4:
                raise error
            return super().forward(x, y, step=step, generator=generator)

    with pytest.raises(error):
        train_regression(Interrupted(), transform=Jitter())
    assert background_threads() == []
    train_regression(Regression(), transform=Jitter())
    assert background_threads() == []


def test_batches_are_made_on_one_thread_and_steps_computed_on_all():
    of_batches, of_steps = set(), set()

    class Watched(Jitter):
        def __call__(self, batch, seed):
            made = super().__call__(batch, seed)
            of_batches.add(torch.get_num_threads())
            return made

    class Counting(Regression):
        def forward(self, x, y, *, step, generator):
            of_steps.add(torch.get_num_threads())
            return super().forward(x, y, step=step, generator=generator)

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        train_regression(Counting(), transform=Watched())
    finally:
        torch.set_num_threads(threads)
    assert (of_batches, of_steps) == ({1}, {3})


def test_an_error_in_the_transform_ends_the_training():
    class Broken(Jitter):
        def __call__(self, batch, seed):
            raise ZeroDivisionError("in the transform")

    with pytest.raises(ZeroDivisionError, match="in the transform"):
        train_regression(Regression(), transform=Broken())
    assert background_threads() == []


def test_the_precision_auto_is_the_best_for_the_device(monkeypatch):
    asked = []

    def resolve(precision, device, shape):
        asked.append((precision, device, shape))
        return "32-true" if precision == "32-true" else "bf16-mixed"

    monkeypatch.setattr(loop, "resolve_precision", resolve)
    auto = Compute(device="cpu", precision="auto")
    assert make_fabric(auto, (2, 3)).strategy.precision.precision == "bf16-mixed"
    assert asked == [("auto", torch.device("cpu"), (2, 3))]
    assert train_regression(Regression(), compute=auto).precision == "bf16-mixed"
    assert train_regression(Regression(), compute=Compute(device="cpu")).precision == "32-true"


def test_rows_may_be_named_twice_or_not_at_all():
    seen = []

    class Watching(Regression):
        def forward(self, x, y, *, step, generator):
            seen.extend(y.tolist())
            return super().forward(x, y, step=step, generator=generator)

    train_regression(Watching(), rows=[3, 3, 5], schedule=Schedule(kind="cosine", max_steps=1))
    y = regression_data()[1]
    assert sorted(seen) == sorted(y[[3, 3, 5]].tolist())


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
        train_regression(objective, schedule=schedule, l2=l2)
        moved.append(objective.weight.detach())
    torch.testing.assert_close(moved[0], moved[1])


def test_frozen_parameters_do_not_move_by_a_bit():
    objective = Regression()
    objective.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    train_regression(objective, l2=0.1)
    assert torch.equal(objective.frozen, torch.ones(2))


def test_rows_of_different_sizes_train_like_what_a_transform_makes_of_them(monkeypatch):
    shapes = []
    resolve = loop.resolve_precision
    monkeypatch.setattr(loop, "resolve_precision", lambda *given: shapes.append(given[2]) or resolve(*given))
    whole, ragged = Regression(), Regression()
    train_regression(whole)
    x, y = regression_data()
    rows = [torch.cat([row, torch.full((index,), 9.0)]) for index, row in enumerate(x)]
    settings = {"task": "task", "batch_size": 4, "schedule": COSINE, "seed": 0, "compute": Compute(device="cpu")}
    train(ragged, (rows, y), transform=Halves(), **settings)
    assert torch.equal(whole.weight, ragged.weight)
    assert tuple(shapes[1])[-1] == 3, "the precision is that for what the objective sees"


class Scaling(Objective):
    """A number times volumes, in steps so short that those of two threads meet at any place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def settings(self):
        return {}

    def forward(self, volumes, *, step, generator):
        loss = (self.weight * volumes[:, 0, 0, 0, 0] - 1).square().mean()
        return {"loss": loss, "data_term": loss.detach()}


def test_trainings_in_threads_do_not_meet_under_mixed_precision():
    def trained(_) -> float:
        objective = Scaling()
        schedule = Schedule(kind="constant", learning_rate=0.05, max_steps=400)
        settings = {"task": "task", "batch_size": 1, "schedule": schedule, "seed": 0}
        compute = Compute(device="cpu", precision="bf16-mixed")
        train(objective, (torch.ones(4, 1, 24, 24, 24),), compute=compute, **settings)
        return objective.weight.item()

    with ThreadPoolExecutor(4) as threads:
        weights = list(threads.map(trained, range(4)))
    assert weights == [trained(0)] * 4
    assert weights[0] == pytest.approx(1, abs=0.01)
