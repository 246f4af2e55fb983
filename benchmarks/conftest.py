"""Paired timing, and the lines at the end of the run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from dwp_kedro.training.precision import best_precision


@dataclass
class Report:
    """What is printed at the end."""

    notes: list[str] = field(default_factory=list)
    goals: list[str] = field(default_factory=list)

    def note(self, name: str, text: str) -> None:
        """Add a line of figures that has no goal."""
        self.notes.append(f"{name:<42} {text}")

    def goal(self, name: str, ratio: float, goal: float) -> None:
        """Add a line of a ratio that has one."""
        self.goals.append(f"{name} ratio {ratio:.2f} goal {goal:g}")


@dataclass(frozen=True)
class Pairs:
    """Seconds of a contestant and of its reference, taken in turns."""

    seconds: list[float]
    reference: list[float]

    @property
    def ratio(self) -> float:
        """Median over pairs of contestant / reference: what slows the machine for a while slows both."""
        return statistics.median(a / b for a, b in zip(self.seconds, self.reference, strict=True))

    def __str__(self) -> str:
        a, b = statistics.median(self.seconds), statistics.median(self.reference)
        return f"{a:.3f} s, reference {b:.3f} s, ratio {self.ratio:.2f} (medians of {len(self.seconds)} pairs)"


_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the report."""
    config.stash[_REPORT] = Report()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the report after all that pytest prints: figures, then a line per goal."""
    report = config.stash[_REPORT]
    if not torch.cuda.is_available():
        report.note("GPU", "not measured, there is none here")
    if best_precision(torch.device("cpu")) != "bf16-mixed":
        report.note("bfloat16", "not measured, this processor has no instructions for it")
    print("\nFigures:", *report.notes, sep="\n")
    print(
        "\nGoals; dwp_step_… and bf16_… are to be at most the goal, the others at least:", *report.goals, sep="\n"
    )


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    """The report at the end of the run."""
    return pytestconfig.stash[_REPORT]


@pytest.fixture
def paired(benchmark: Any) -> Callable[..., Pairs]:
    """Time a contestant by pytest-benchmark, each round just after a round of its reference."""

    def run(contestant: Callable[[], None], reference: Callable[[], None], rounds: int = 10) -> Pairs:
        pairs = Pairs([], [])
        contestant()
        reference()

        def timed(target: Callable[[], None], seconds: list[float]) -> None:
            started = time.perf_counter()
            target()
            seconds.append(time.perf_counter() - started)

        benchmark.pedantic(
            lambda: timed(contestant, pairs.seconds),
            setup=lambda: timed(reference, pairs.reference),
            rounds=rounds,
        )
        benchmark.extra_info |= {"ratio": pairs.ratio, "reference": statistics.median(pairs.reference)}
        return pairs

    return run
