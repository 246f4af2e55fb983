"""Many cells in one run: each costs as much as the others, and leaves nothing in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MOST_GROWTH = 1.05  # of memory
MOST_SLOWDOWN = 1.25  # of the processor's time for a cell, between the first ones and the last ones


def ends_of(step: str, lines: list[str], methods: str = r"\w+") -> list[int]:
    """Numbers of the lines that say that a step of a cell is done."""
    pattern = re.compile(rf"Completed node: target_evaluation\.{methods}\.n\d+_split\d+_seed\d+\.{step}\b")
    return [number for number, line in enumerate(lines) if pattern.search(line)]


@pytest.mark.parametrize(("methods", "n_cells"), [("(pr|prf|ri)", 12), ("(dwp|dwp_sp)", 8)])
@pytest.mark.parametrize("step", ["train", "predict", "score"])
def test_cells_of_a_kind_leave_nothing_in_memory(finished_project: Path, methods: str, n_cells: int, step: str):
    """The first cell of a kind may need arrays of a size that none needed before."""
    lines = (finished_project / "terminal.txt").read_text().splitlines()
    held = np.loadtxt(finished_project / "terminal_memory.txt")[ends_of(step, lines, methods)]
    assert len(held) == n_cells
    assert held[-1] <= MOST_GROWTH * held[0]


@pytest.mark.slow
def test_48_equal_cells_leave_nothing_in_memory_and_do_not_slow_down(project_copy: Path, run_as_typed: Any):
    run = run_as_typed(
        project_copy, "--env", "test", "--pipelines", "data_processing,target_evaluation",
        "--params", "grid.methods=[dwp],grid.n_train=[2],grid.n_splits=48",
    )  # fmt: skip
    assert run.status == 0, "".join(run.lines[-60:])
    busy = np.array([seconds for _, seconds in run.seconds])
    for step in ("train", "predict", "score"):
        ends = ends_of(step, run.lines)
        assert len(ends) == 48
        held = np.array(run.megabytes)[ends]
        cost = np.diff(busy[ends])
        first, last = np.median(cost[:8]), np.median(cost[-8:])
        print(
            f"{step}: memory after cell 8 {held[7]:.0f} MiB, after cell 48 {held[47]:.0f} MiB; "
            f"processor's time of a cell {first:.3f} s at first, {last:.3f} s at last"
        )
        assert held[47] <= MOST_GROWTH * held[7]
        assert last <= MOST_SLOWDOWN * first + 0.01  # a clock tick
