"""Two runs at the same time in one project's folder, from a database that neither has made yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparing import assert_same_record, assert_whole, files_of, runs_of
from forked_runs import end, printed, run, start


def test_different_cells(without_cells: Path, uninterrupted: Path):
    methods = ("ri", "dwp")
    command = ["run", "--env", "test", "--namespaces"]
    processes = [start(without_cells, *command, f"target_evaluation.{method}") for method in methods]
    assert [end(process) for process in processes] == [0, 0], printed(without_cells)

    assert_whole(without_cells, uninterrupted)
    cells = {
        name for name in files_of(uninterrupted) if "/target_evaluation/" in name or "/07_model_output/" in name
    }
    assert cells <= files_of(without_cells).keys()
    parents, children = runs_of(without_cells)
    assert [parent.info.status for parent in parents] == ["FINISHED", "FINISHED"]
    _, wanted = runs_of(uninterrupted)
    assert sorted(children) == ["dwp.n2_split0_seed0", "ri.n2_split0_seed0"]
    for name, [child] in children.items():
        assert child.info.status == "FINISHED"
        assert_same_record(child, without_cells, wanted[name][0], uninterrupted)


@pytest.mark.slow
def test_the_same_cells(without_cells: Path, uninterrupted: Path):
    """One of the two may end with an error, where the other replaces what it reads; nothing is ever half there."""
    command = ["run", "--env", "test", "--pipelines", "target_evaluation"]
    processes = [start(without_cells, *command) for _ in range(2)]
    statuses = [end(process) for process in processes]
    assert min(statuses) == 0, printed(without_cells)
    assert_whole(without_cells, uninterrupted)
    assert run(without_cells, *command, "--only-missing-outputs") == 0, printed(without_cells)
    assert_whole(without_cells, uninterrupted)
    parents, _ = runs_of(without_cells)
    assert "RUNNING" not in {parent.info.status for parent in parents}
