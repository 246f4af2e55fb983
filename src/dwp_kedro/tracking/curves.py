"""Curves on their way to MLflow, in batches rather than one call per step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

FLUSH_EVERY_SECONDS = 5.0


class Point(NamedTuple):
    """One point of one curve; ``timestamp`` is Unix time in ms."""

    name: str
    value: float
    timestamp: int
    step: int


class CurveListener:
    """A progress listener of one node that hands on its points every few seconds; call from one thread."""

    def __init__(self, send: Callable[[list[Point]], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._points: list[Point] = []
        self._sent = clock()

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Take one point of each curve."""
        timestamp = time.time_ns() // 1_000_000
        self._points += [Point(name, float(value), timestamp, step) for name, value in metrics.items()]
        if self._clock() - self._sent >= FLUSH_EVERY_SECONDS:
            self.flush()

    def on_progress(self, task: str, completed: int, total: int, metrics: Mapping[str, float]) -> None:
        """Ignore progress: MLflow has no place for it."""

    def flush(self) -> None:
        """Hand on what is waiting."""
        points, self._points = self._points, []
        if points:
            self._send(points)
        self._sent = self._clock()
