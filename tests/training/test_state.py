from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from regression import (
    CONSTANT,
    COSINE,
    PLATEAU,
    Halves,
    Jitter,
    KillAt,
    KilledError,
    Regression,
    TwoRates,
    Watcher,
    regression_data,
    train_regression,
)

from dwp_kedro.progress import listening
from dwp_kedro.training import loop, state
from dwp_kedro.training.loop import train
from dwp_kedro.training.settings import Compute


@pytest.mark.parametrize("transform", [None, Jitter()])
@pytest.mark.parametrize("schedule", [COSINE, PLATEAU, CONSTANT])
@pytest.mark.parametrize("killed_at", [5, 14, 21])
@pytest.mark.parametrize("objective", [Regression, TwoRates])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, schedule, killed_at, transform, objective):
    whole = objective()
    expected = train_regression(whole, schedule=schedule, transform=transform)
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(killed_at)), pytest.raises(KilledError):
        train_regression(objective(), schedule=schedule, compute=compute, transform=transform)
    resumed = objective()
    found = train_regression(resumed, schedule=schedule, compute=compute, transform=transform)
    assert all(map(torch.equal, whole.parameters(), resumed.parameters()))
    assert found.rows == expected.rows
    assert list(tmp_path.iterdir()) == [], "a finished training leaves no state behind"


def test_the_state_of_another_training_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(14)), pytest.raises(KilledError):
        train_regression(Regression(), seed=7, compute=compute)
    resumed, fresh = Regression(), Regression()
    train_regression(resumed, seed=0, compute=compute)
    train_regression(fresh, seed=0)
    assert torch.equal(resumed.weight, fresh.weight)


def test_the_state_of_another_objective_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(14)), pytest.raises(KilledError):
        train_regression(Regression(extra=0.5), compute=compute)
    resumed, fresh = Regression(), Regression()
    history = train_regression(resumed, compute=compute)
    assert history.rows == train_regression(fresh).rows


def test_the_state_of_another_transform_or_observer_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    observed = Regression()
    for options in (
        {"transform": Jitter(0.2)},
        {"observer": Watcher(observed, "another")},
        {},
    ):
        with listening(KillAt(14)), pytest.raises(KilledError):
            train_regression(Regression(), compute=compute, **options)
        fresh, resumed = Regression(), Regression()
        expected = train_regression(fresh, transform=Jitter(), observer=Watcher(fresh))
        watcher = Watcher(resumed)
        assert (
            train_regression(resumed, compute=compute, transform=Jitter(), observer=watcher).rows == expected.rows
        )
        assert len(watcher.steps) == 24


@pytest.mark.parametrize("killed_at", [1, 5, 21])
def test_an_observer_sees_every_step_once_and_keeps_what_it_saw(tmp_path, killed_at):
    whole = Regression()
    expected = Watcher(whole)
    train_regression(whole, observer=expected)
    assert expected.steps.tolist() == [float(step) for step in range(1, 25)]
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    killed, resumed = Regression(), Regression()
    with listening(KillAt(killed_at)), pytest.raises(KilledError):
        train_regression(killed, compute=compute, observer=Watcher(killed))
    found = Watcher(resumed)
    train_regression(resumed, compute=compute, observer=found)
    assert torch.equal(found.steps, expected.steps)
    assert torch.equal(found.sum, expected.sum)


def test_a_state_is_taken_up_by_the_precision_it_was_made_in(tmp_path, monkeypatch):
    kept = {"device": "cpu", "state_folder": tmp_path, "state_every_seconds": 0}
    for best, first_step in (("32-true", 13), ("bf16-mixed", 1)):
        monkeypatch.setattr(
            loop, "resolve_precision", lambda asked, *_, best=best: best if asked == "auto" else asked
        )
        with listening(KillAt(14)), pytest.raises(KilledError):
            train_regression(Regression(), compute=Compute(**kept))
        steps = []

        class Watching(Regression):
            def forward(self, x, y, *, step, generator):
                steps.append(step + 1)  # noqa: B023
                return super().forward(x, y, step=step, generator=generator)

        train_regression(Watching(), compute=Compute(**kept, precision="auto"))
        assert steps[0] == first_step


def test_a_state_of_other_rows_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    x, y = regression_data()
    settings = {"task": "task", "batch_size": 4, "schedule": COSINE, "seed": 0, "compute": compute}
    with listening(KillAt(14)), pytest.raises(KilledError):
        train(Regression(), ([*x], y), transform=Halves(), **settings)
    changed = [*x[:-1], x[-1] + 1]
    resumed, fresh = Regression(), Regression()
    train(resumed, (changed, y), transform=Halves(), **settings)
    train(fresh, (changed, y), transform=Halves(), **settings)
    assert torch.equal(resumed.weight, fresh.weight)


def test_the_state_of_another_gradient_norm_is_not_taken_up(tmp_path):
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    with listening(KillAt(14)), pytest.raises(KilledError):
        train_regression(Regression(), compute=compute, gradient_norm=0.5)
    resumed, fresh = Regression(), Regression()
    train_regression(resumed, compute=compute)
    train_regression(fresh)
    assert torch.equal(resumed.weight, fresh.weight)


def test_the_state_of_other_code_is_not_taken_up(monkeypatch):
    made_of = state.fingerprint({}, (torch.zeros(2),), Regression())
    assert state.fingerprint({}, (torch.zeros(2),), Regression()) == made_of
    monkeypatch.setattr(state, "code_digest", lambda package: "another")
    assert state.fingerprint({}, (torch.zeros(2),), Regression()) != made_of


def test_the_code_is_that_of_the_training_alone(tmp_path, monkeypatch):
    package = shutil.copytree(Path(state.__file__).parents[1], tmp_path / "package")
    before = state.code_digest(package)
    assert before == state.code_digest(Path(state.__file__).parents[1])
    with (package / "evaluation" / "report.py").open("a") as file:
        file.write("# another\n")
    assert state.code_digest(package) == before
    for module in ("networks/unet.py", "bayes/elbo.py", "training/losses.py"):
        with (package / module).open("a") as file:
            file.write("# another\n")
        after = state.code_digest(package)
        assert after != before
        before = after
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert state.code_digest(package) != before
