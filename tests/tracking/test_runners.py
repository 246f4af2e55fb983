from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline, node, pipeline
from kedro_viz.integrations.kedro.hooks_utils import is_sequential_runner

from dwp_kedro.tracking.runners import FailedCellsError, SequentialRunner, ThreadRunner
from dwp_kedro.training.finiteness import TrainingError

RUNNERS = [SequentialRunner(), ThreadRunner(max_workers=2)]


class Unsavable(MemoryDataset):
    def save(self, data: Any) -> None:
        raise DatasetError("no space left on device")


class Grid:
    """A node that all cells need, three cells, and a summary; ``ran`` lists what was run."""

    def __init__(self, **functions: Callable[[], Any]) -> None:
        self.ran: list[str] = []
        self.functions = functions
        self.cells = [self._cell(name) for name in "abc"]
        first = node(lambda: self._run("prior"), None, "prior", name="learn_prior")
        scores = [f"{name}.score" for name in self.names]
        last = node(lambda *given: self._run("summary"), scores, "table", name="summarise")
        self.pipeline = sum(self.cells, Pipeline([first, last]))

    @property
    def names(self) -> list[str]:
        return [f"target_evaluation.{name}.n2_split0_seed0" for name in "abc"]

    def _run(self, name: str) -> str:
        self.ran.append(name)
        return self.functions.get(name, lambda: name)()

    def _cell(self, name: str) -> Pipeline:
        nodes = [
            node(lambda prior: self._run(f"train_{name}"), "prior", "checkpoint", name="train"),
            node(lambda checkpoint: self._run(f"score_{name}"), "checkpoint", "score", name="score"),
        ]
        namespace = f"target_evaluation.{name}.n2_split0_seed0"
        return pipeline(nodes, namespace=namespace, inputs="prior", tags="stage.grid_cell")


def fail(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize("runner", RUNNERS, ids=["sequential", "threads"])
def test_the_other_cells_go_on_and_all_that_failed_are_listed(tmp_path: Path, run_pipeline: Any, runner: Any):
    not_finite = TrainingError("target a: kl not finite in step 3 of 4")
    grid = Grid(train_a=fail(not_finite), score_c=fail(ZeroDivisionError("1/0")))
    catalog = DataCatalog()
    with pytest.raises(FailedCellsError) as caught:
        run_pipeline(grid.pipeline, catalog, (), tmp_path, runner=runner)
    first, *failed, left_out = str(caught.value).splitlines()
    assert first == "2 of 3 cells failed; what does not need them is made."
    assert sorted(failed) == [
        "  a.n2_split0_seed0 (train): target a: kl not finite in step 3 of 4",
        "  c.n2_split0_seed0 (score): ZeroDivisionError: 1/0",
    ]
    assert left_out == "Not made, because they need all cells: summarise"
    assert grid.ran[0] == "prior"
    assert sorted(grid.ran[1:]) == ["score_b", "score_c", "train_a", "train_b", "train_c"]
    assert catalog.exists(f"{grid.names[1]}.score")
    assert not catalog.exists(f"{grid.names[2]}.score")


@pytest.mark.parametrize("runner", RUNNERS, ids=["sequential", "threads"])
def test_without_a_failure_all_is_as_ever(tmp_path: Path, run_pipeline: Any, runner: Any):
    grid = Grid()
    run_pipeline(grid.pipeline, DataCatalog(), (), tmp_path, runner=runner)
    assert (grid.ran[0], grid.ran[-1], len(grid.ran)) == ("prior", "summary", 8)


def test_one_after_the_other_is_the_order_of_the_pipeline(tmp_path: Path, run_pipeline: Any):
    grid = Grid()
    run_pipeline(grid.pipeline, DataCatalog(), (), tmp_path, runner=SequentialRunner())
    trained_and_scored = [f"{step}_{name}" for step in ("train", "score") for name in "abc"]
    assert grid.ran == ["prior", *trained_and_scored, "summary"]


@pytest.mark.parametrize("runner", RUNNERS, ids=["sequential", "threads"])
def test_what_cells_need_still_stops_the_run(tmp_path: Path, run_pipeline: Any, runner: Any):
    grid = Grid(prior=fail(TrainingError("prior group_1: loss not finite")))
    with pytest.raises(TrainingError, match="prior group_1"):
        run_pipeline(grid.pipeline, DataCatalog(), (), tmp_path, runner=runner)
    assert grid.ran == ["prior"]


def test_what_cannot_be_saved_stops_the_run(tmp_path: Path, run_pipeline: Any):
    grid = Grid()
    catalog = DataCatalog({f"{grid.names[0]}.checkpoint": Unsavable()})
    with pytest.raises(DatasetError, match="no space left"):
        run_pipeline(grid.pipeline, catalog, (), tmp_path, runner=SequentialRunner())
    assert grid.ran == ["prior", "train_a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_stops_the_run(tmp_path: Path, run_pipeline: Any, error: type[BaseException]):
    grid = Grid(train_a=fail(error()))
    with pytest.raises(error):
        run_pipeline(grid.pipeline, DataCatalog(), (), tmp_path, runner=SequentialRunner())
    assert grid.ran == ["prior", "train_a"]


def test_a_failed_cells_tensors_are_let_go(tmp_path: Path, run_pipeline: Any):
    kept: list[weakref.ref[torch.Tensor]] = []

    def train() -> None:
        weights = torch.zeros(1000)
        kept.append(weakref.ref(weights))
        raise TrainingError("loss not finite")

    alive: list[bool] = []
    grid = Grid(train_a=train, train_b=lambda: alive.append(kept[0]() is not None) or "b")
    with pytest.raises(FailedCellsError):
        run_pipeline(grid.pipeline, DataCatalog(), (), tmp_path, runner=SequentialRunner())
    assert alive == [False]


def test_kedro_viz_sees_a_sequential_run():
    assert is_sequential_runner({"runner": str(SequentialRunner())})
    assert not is_sequential_runner({"runner": str(ThreadRunner())})
