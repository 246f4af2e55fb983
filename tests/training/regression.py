"""A training of three weights that takes milliseconds, and what can be done to it."""

from __future__ import annotations

import torch
from torch import nn

from dwp_kedro.training.loop import History, train
from dwp_kedro.training.objective import Objective
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


class TwoRates(Regression):
    """The same with an intercept that trains ten times as fast."""

    def __init__(self) -> None:
        super().__init__()
        self.intercept = nn.Parameter(torch.zeros(1))

    def rates(self):
        return {"intercept": 10.0}

    def forward(self, x, y, *, step, generator):
        return super().forward(x, y - 3 - self.intercept, step=step, generator=generator)


def regression_data():
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([1.0, -2.0, 0.5])


def train_regression(objective, *, seed=0, schedule=COSINE, compute=None, **options) -> History:
    settings = {"task": "task", "batch_size": 4, "schedule": schedule, "seed": seed, **options}
    return train(objective, regression_data(), compute=compute or Compute(device="cpu"), **settings)


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


class Halves:
    """Cuts rows of any length to their first three entries."""

    def __call__(self, batch, seed):
        x, y = batch
        return torch.stack([row[:3] for row in x]), torch.stack(list(y))

    def settings(self):
        return {}


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
