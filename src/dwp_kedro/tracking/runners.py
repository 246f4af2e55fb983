"""Kedro's runners, except that a cell of the grid that fails lets the other cells go on."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from itertools import chain
from typing import Any

import kedro.runner
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pluggy import PluginManager

from dwp_kedro.tracking.run_parameters import GRID_CELL, child_of, run_name, stage_of
from dwp_kedro.tracking.told import describe, told


class FailedCellsError(RuntimeError):
    """Cells of the grid failed, and what does not need them is made; the message lists them with their causes."""


class _LettingCellsFail(kedro.runner.AbstractRunner):
    """Runs nodes in the pipeline's order, as many at a time as the runner has workers.

    If the function of a cell's node raises an error, the nodes that need its outputs are left out and the others
    run. Every other error stops the run: cells need what other nodes make, and where something cannot be loaded
    or saved they would meet the same disk.
    """

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        """Run the pipeline.

        Raises:
            FailedCellsError: at the end, if cells failed.
            Exception: at once, whatever another node raises.
        """
        assert hook_manager is not None
        functions = _FailedFunctions()
        hook_manager.register(functions)
        dependencies = pipeline.node_dependencies
        load_counts = Counter(chain.from_iterable(node.inputs for node in pipeline.nodes))
        workers = self._get_required_workers_count(pipeline)
        todo, done, left_out = list(pipeline.nodes), set[Node](), set[Node]()
        failed: dict[Node, str] = {}
        running: dict[Future[Node], Node] = {}
        with self._get_executor(workers) or _InPlace() as executor:
            while todo or running:
                ready = [node for node in todo if dependencies[node] <= done]
                for node in ready[: workers - len(running)]:
                    todo.remove(node)
                    task = kedro.runner.Task(node, catalog, self._is_async, hook_manager, run_id)
                    running[executor.submit(task.execute)] = node
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    node = running.pop(future)
                    try:
                        future.result()
                    except Exception as error:
                        if stage_of(node) != GRID_CELL or node not in functions.failed:
                            raise
                        failed[node] = describe(error)
                        left_out.update(pipeline.from_nodes(node.name).nodes)
                        todo = [other for other in todo if other not in left_out]
                        shown = None if told(error) else error
                        self._logger.error("%s failed; other cells go on.", node.name, exc_info=shown)
                        traceback.clear_frames(error.__traceback__)  # They hold the cell's tensors.
                        continue
                    done.add(node)
                    self._logger.info("Completed node: %s", node.name)
                    self._logger.info("Completed %d out of %d tasks", len(done), len(pipeline.nodes))
                    self._release_datasets(node, catalog, load_counts, pipeline)
        if failed:
            raise FailedCellsError(_message(pipeline, failed, left_out))


class SequentialRunner(_LettingCellsFail, kedro.runner.SequentialRunner):
    """One node after the other, in the main thread."""

    __module__ = kedro.runner.SequentialRunner.__module__  # by which Kedro-Viz knows it, and its lines are logged


class ThreadRunner(_LettingCellsFail, kedro.runner.ThreadRunner):
    """Several nodes at a time, each in a thread."""

    __module__ = kedro.runner.ThreadRunner.__module__


class _InPlace(Executor):
    """Runs what is submitted at once, in the thread that submits it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn``; what stops the whole run (Ctrl-C) is not kept for later."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _FailedFunctions:
    """A hook that notes nodes whose function raised an error; Kedro calls it for no others."""

    def __init__(self) -> None:
        self.failed: set[Node] = set()

    @hook_impl
    def on_node_error(self, node: Node) -> None:
        """Note a node."""
        self.failed.add(node)


def _message(pipeline: Pipeline, failed: dict[Node, str], left_out: set[Node]) -> str:
    cells = {child_of(node) for node in pipeline.nodes if stage_of(node) == GRID_CELL}
    lines = [f"{len(failed)} of {len(cells)} cells failed; what does not need them is made."]
    for node, cause in failed.items():
        lines.append(f"  {run_name(child_of(node))} ({node.name.rsplit('.', 1)[-1]}): {cause}")
    others = [node.name for node in pipeline.nodes if node in left_out and stage_of(node) != GRID_CELL]
    if others:
        lines.append(f"Not made, because they need all cells: {', '.join(others)}")
    return "\n".join(lines)
