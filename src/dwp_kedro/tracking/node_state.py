"""Which nodes a run will run, and when a node is over; Kedro has no hook for either."""

from __future__ import annotations

import threading

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node


def nodes_to_run(pipeline: Pipeline, catalog: CatalogProtocol, *, only_missing_outputs: bool) -> list[Node]:
    """Return the nodes that Kedro, which decides after its hooks, will not leave out because all is made."""
    return [
        node
        for node in pipeline.nodes
        if not only_missing_outputs or not node.outputs or not all(catalog.exists(name) for name in node.outputs)
    ]


class RunningNodes:
    """Nodes that run, each with the outputs it has not saved yet; safe to call from any thread.

    Kedro saves outputs after ``after_node_run``: a node is over with the last of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsaved: dict[str, set[str]] = {}

    def begin(self, node: Node) -> None:
        """Note that ``node`` runs, unless that is known already."""
        with self._lock:
            self._unsaved.setdefault(node.name, set(node.outputs))

    def saved(self, node: Node, dataset_name: str) -> bool:
        """Note that one output of ``node`` is saved; tell whether it was the last one."""
        with self._lock:
            unsaved = self._unsaved.get(node.name, set())
            unsaved.discard(dataset_name)
            return not unsaved

    def end(self, node: Node) -> None:
        """Note that ``node`` runs no more."""
        with self._lock:
            self._unsaved.pop(node.name, None)

    def names(self) -> set[str]:
        """Return the names of the nodes that run."""
        with self._lock:
            return set(self._unsaved)
