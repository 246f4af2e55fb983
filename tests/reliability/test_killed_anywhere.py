"""Runs of all pipelines that are killed at random moments, and taken up again until they end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from comparing import assert_same_records, assert_whole, files_of, runs_of
from forked_runs import Kill, Moment, printed, run
from small_projects import EVERYTHING, EXPORT, PREDICTION

FIRST_STATEMENTS = 1000
"""MLflow's database is made with more statements than these."""

LATEST: dict[Moment, int] = {
    "open": 60, "write": 60, "rename": 60, "remove": 50, "statement": 700, "processor": 5000
}  # fmt: skip
"""The latest moments of kills: about a quarter of a whole run's, so that eight go through all of it."""


def draw_kill(generator: random.Random, *, share: float = 1.0) -> Kill:
    moment = generator.choice(list(LATEST))
    return Kill(moment, generator.randint(1, max(1, round(share * LATEST[moment]))))


def forget_summaries(project: Path) -> None:
    """Give a finished project something to do again, of no network, VAE or cell."""
    for file in (project / "data/08_reporting/test").iterdir():
        if not file.name.startswith("kernels_"):
            file.unlink()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_killed_ten_times(seed: int, small_project: Path, uninterrupted: Path):
    generator = random.Random(seed)
    commands = [(EVERYTHING, 8, 1.0), (PREDICTION, 1, 0.1), (EXPORT, 1, 0.05)]
    kills, n_starts = [Kill("statement", generator.randint(1, FIRST_STATEMENTS))], 0
    hits: list[Kill] = []
    for command, n_kills, share in commands:
        n_before = len(hits)
        while len(hits) - n_before < n_kills:
            kill = kills.pop() if kills else draw_kill(generator, share=share)
            status, n_starts = run(small_project, *command.split(), kill=kill), n_starts + 1
            if status < 0:
                hits.append(kill)
                assert_whole(small_project, uninterrupted)
                assert len(hits) > 1 or not (small_project / "mlflow.db").exists(), "whole or not there"
            else:  # It ended before that moment came.
                assert status == 0, printed(small_project)
                if command == EVERYTHING:
                    forget_summaries(small_project)
        assert run(small_project, *command.split()) == 0, printed(small_project)
    print(f"seed {seed}: {n_starts} starts, killed at {[f'{kill.moment} {kill.number}' for kill in hits]}")

    assert_whole(small_project, uninterrupted)
    assert files_of(small_project).keys() == files_of(uninterrupted).keys()
    assert not list(small_project.glob("data/06_models/test/unfinished/*.safetensors"))
    assert not list(small_project.glob(".mlflow.db*")), "what the killed process left is removed"
    assert_same_records(small_project, uninterrupted)
    parents, _ = runs_of(small_project)
    assert len(parents) <= n_starts + len(commands)
