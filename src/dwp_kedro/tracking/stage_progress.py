"""How many source networks, kernel VAEs and grid cells are done, and how long the others will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kedro.pipeline.node import Node

from dwp_kedro.tracking.run_parameters import GRID_CELL, stage_of

_UNITS = {"source_network": "source networks", "kernel_vae": "kernel VAEs", GRID_CELL: "grid cells"}


@dataclass
class StageCount:
    """Nodes that do the same for each unit of a stage, for example train a grid cell; times in s."""

    name: str
    total: int = 0
    done: int = 0
    running: set[str] = field(default_factory=set)
    """Names of its nodes that run."""
    busy: float = 0.0
    """For how long at least one of its nodes has run: those of other stages may come in between."""
    since: float = 0.0
    """When the first of those that run began."""

    def count(self) -> str:
        """For example '3/8'."""
        return f"{self.done}/{self.total}"

    def seconds_left(self) -> float:
        """Return how long the rest takes if it goes on at the mean speed so far; one must be done."""
        return self.busy / self.done * (self.total - self.done)


class StageProgress:
    """Counts the nodes of a run's stages; safe to call from any thread.

    Kedro runs a node of every cell before it comes to the next node of any, so that all cells would be done at
    almost the same time. Counted is therefore per node: cells that are trained, predicted, scored.
    """

    def __init__(self, nodes: Iterable[Node], clock: Callable[[], float] = time.monotonic) -> None:
        """Take the nodes that will run: a total has no nodes in it whose outputs are there already."""
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, StageCount] = {}
        for node in nodes:
            if (name := _name(node)) is not None:
                self._counts.setdefault(name, StageCount(name)).total += 1

    def begin(self, node: Node) -> StageCount | None:
        """Note that ``node`` runs, unless that is known already; return its count if it has one."""
        with self._lock:
            count = self._counts.get(_name(node) or "")
            if count is not None and node.name not in count.running:
                count.since = count.since if count.running else self._clock()
                count.running.add(node.name)
            return count

    def end(self, node: Node, *, failed: bool) -> StageCount | None:
        """Note that ``node`` runs no more; return its count if it has one."""
        with self._lock:
            count = self._counts.get(_name(node) or "")
            if count is not None and node.name in count.running:
                now = self._clock()
                count.busy += now - count.since
                count.since = now
                count.running.remove(node.name)
                count.done += not failed
            return count


def _name(node: Node) -> str | None:
    stage = stage_of(node)
    return None if stage is None else f"{_UNITS.get(stage, stage)} ({node.name.rsplit('.', 1)[-1]})"
