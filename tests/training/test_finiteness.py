"""Whatever trains stops at numbers that are not finite, says why, and keeps its last good state."""

from __future__ import annotations

import math
import re

import pytest
import torch
from regression import CONSTANT, Regression, train_regression

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.training.finiteness import TrainingError
from dwp_kedro.training.kernel_prior import learn_prior
from dwp_kedro.training.loop import train
from dwp_kedro.training.settings import Compute, Schedule, SnapshotSettings
from dwp_kedro.training.source import collect_source_posterior, new_network, train_source
from dwp_kedro.training.target import (
    Method,
    MixtureObjective,
    PosteriorSettings,
    initial_scales,
    make_objective,
    make_prior,
)

CPU = Compute(device="cpu")
CHANNELS = (2, 2, 2, 4)
SHORT = Schedule(kind="constant", max_steps=2)


class Broken(Regression):
    """Adds something to terms from the 14th step on: the second of the fifth epoch."""

    def __init__(self, **added: float) -> None:
        super().__init__()
        self.added = added

    def forward(self, x, y, *, step, generator):
        terms = super().forward(x, y, step=step, generator=generator) | {"kl": torch.tensor(2.0)}
        if step >= 13:
            terms |= {name: terms[name] + value for name, value in self.added.items()}
        return terms


class BrokenGradient(Regression):
    """From the 14th step on, adds a function of the weights to the loss."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, y, *, step, generator):
        terms = super().forward(x, y, step=step, generator=generator)
        return terms | {"loss": terms["loss"] + self.function(self.weight)} if step >= 13 else terms


def infinite_slope(weight):
    """0, with the slope 0/0."""
    return (weight - weight.detach()).square().sum().sqrt()


def huge_slope(weight):
    """0, with a slope of 10³⁰ for each weight."""
    return 1e30 * (weight - weight.detach()).sum()


@pytest.mark.parametrize(
    ("objective", "cause"),
    [
        (Broken(loss=math.nan), r"loss not finite \(loss nan, data_term \S+, kl 2\)"),
        (
            Broken(loss=math.inf, kl=math.inf),
            r"kl and so loss not finite \(loss inf, data_term \S+, kl inf\)",
        ),
        (Broken(data_term=math.nan), "data_term not finite"),
        (Broken(kl=-math.inf), "kl not finite"),
        (BrokenGradient(infinite_slope), r"gradient of weight not finite \(loss \S+, data_term \S+\)"),
        (BrokenGradient(huge_slope), "norm of the gradient too large for float32"),
    ],
)
@pytest.mark.parametrize("gradient_norm", [None, 1.0])
def test_a_training_stops_before_its_weights_are_touched(tmp_path, objective, cause, gradient_norm):
    healthy, resumed = Regression(), Regression()
    until = Schedule(kind="constant", learning_rate=0.05, max_steps=13)
    train_regression(healthy, schedule=until, gradient_norm=gradient_norm)
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)
    for _ in range(2):  # the second time from the saved state
        with pytest.raises(TrainingError) as caught:
            train_regression(objective, schedule=CONSTANT, compute=compute, gradient_norm=gradient_norm)
        message = str(caught.value)
        state = tmp_path / "task.safetensors"
        assert re.match(rf"task: {cause}.* in step 14 of 24\. ", message)
        assert f"Its last good state, after step 12, is kept in {state}. To mend it: lower its learning" in message
        assert state.exists()
        assert torch.equal(objective.weight, healthy.weight)
        with torch.no_grad():
            objective.weight.zero_()
    # The state is good: a training that is made of the same goes on from it to the end.
    found = train_regression(resumed, schedule=CONSTANT, compute=compute, gradient_norm=gradient_norm)
    whole = Regression()
    train_regression(whole, schedule=CONSTANT, gradient_norm=gradient_norm)
    assert torch.equal(resumed.weight, whole.weight)
    assert found.rows[-1]["step"] == 24


def test_without_a_saved_state_the_message_says_so():
    with pytest.raises(TrainingError, match="No state of it had been saved yet"):
        train_regression(Broken(loss=math.nan), schedule=CONSTANT)


@pytest.mark.parametrize("is_saved", [False, True])
def test_weights_that_overflow_are_no_result_and_no_state(tmp_path, is_saved):
    class Running(Regression):
        def forward(self, x, y, *, step, generator):
            return {"loss": -(1e-3 * self.weight).sum(), "data_term": torch.tensor(0.0)}

    objective = Running()
    with torch.no_grad():
        objective.weight.fill_(3.3e38)
    compute = Compute(device="cpu", state_folder=tmp_path if is_saved else None, state_every_seconds=0)
    schedule = Schedule(kind="constant", learning_rate=3e37, max_steps=1)
    with pytest.raises(TrainingError, match="weights of weight not finite after step 1 of 1"):
        train_regression(objective, schedule=schedule, compute=compute)
    assert list(tmp_path.iterdir()) == []


def volumes(broken: float = math.nan):
    images = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, 0, 3, 4, 5] = broken
    return images, (images[:, 0] > 1).to(torch.uint8)


SEGMENTATION = {"batch_size": 2, "dice_weight": 0.99, "l2": 0.0, "seed": 0, "compute": CPU}


def source_network():
    network = new_network(1, 2, CHANNELS, seed=0)
    train_source(network, volumes(), task="source network 3", schedule=SHORT, rows=range(2), **SEGMENTATION)


def snapshots():
    settings = SnapshotSettings(learning_rate=0.1, n_snapshots=2, every_steps=1, rank=2)
    network = new_network(1, 2, CHANNELS, seed=0)
    collect_source_posterior(network, volumes(), task="source posterior 0", snapshots=settings, **SEGMENTATION)


def kernel_vae():
    kernels = torch.full((4, 27), math.inf)
    settings = {"latent_dim": 2, "literal_heads": False, "batch_size": 4, "schedule": SHORT, "seed": 0}
    learn_prior(kernels, task="prior group_2", compute=CPU, **settings)


def target(temperature: float = 1e300, components: int = 1):
    objectives = []
    for seed in range(components):
        network = new_network(1, 2, CHANNELS, seed)
        groups, names = kernel_groups(network, 1), ("standard_normal",)
        settings = PosteriorSettings(temperature=temperature if seed == 0 else 0.1)
        prior = make_prior(names, None, None, settings, groups)
        scales = initial_scales(network, groups)
        objectives.append(make_objective(network, groups, Method(names), prior, scales, settings, 0.99, 2)[0])
    objective = objectives[0] if components == 1 else MixtureObjective(objectives)
    train(objective, volumes(0.0), task="target dwp", batch_size=2, schedule=SHORT, seed=0, compute=CPU)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            source_network,
            "source network 3: data_term and so loss not finite .* step 1 of 2.*the batch itself",
        ),
        (snapshots, "source posterior 0: data_term and so loss not finite .* step 1 of 2.*the batch itself"),
        (kernel_vae, "prior group_2: data_term, latent_kl and so loss not finite .* step 1 of 2.*the batch"),
        (target, "target dwp: loss not finite .loss inf, data_term .*, kl .* step 1 of 2.*learning rate"),
        (lambda: target(components=2), "target dwp: loss not finite .loss inf, data_term .* step 1 of 2"),
    ],
)
def test_whatever_trains_is_stopped(training, message):
    with pytest.raises(TrainingError, match=message):
        training()
