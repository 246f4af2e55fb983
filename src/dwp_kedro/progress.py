"""Long work says how far it is, without knowing who listens.

The core calls :func:`track` and :func:`log_metrics`; a terminal, MLflow or a test listens through
:func:`listening`. With nobody listening, both cost nothing. Listeners live in a context variable, so that
grid cells trained in different threads never hear each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Listener(Protocol):
    """What a listener hears."""

    def on_progress(self, task: str, completed: int, total: int, metrics: Mapping[str, float]) -> None:
        """Hear that ``completed`` of ``total`` steps of ``task`` are done; 0 starts it, ``total`` ends it."""

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hear one point of each named curve."""


_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("dwp_kedro_listeners", default=())


def add_listener(listener: Listener) -> Token[tuple[Listener, ...]]:
    """Add a listener in the current context; give the token to :func:`remove_listener`."""
    return _listeners.set((*_listeners.get(), listener))


def remove_listener(token: Token[tuple[Listener, ...]]) -> None:
    """Restore the listeners that were there before ``token``'s listener was added."""
    _listeners.reset(token)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let ``listener`` hear everything that happens in the block."""
    token = add_listener(listener)
    try:
        yield
    finally:
        remove_listener(token)


def report_progress(task: str, completed: int, total: int, **metrics: float) -> None:
    """Tell all listeners how far ``task`` is."""
    for listener in _listeners.get():
        listener.on_progress(task, completed, total, metrics)


def log_metrics(metrics: Mapping[str, float], step: int) -> None:
    """Tell all listeners one point of each curve in ``metrics``."""
    for listener in _listeners.get():
        listener.on_metrics(metrics, step)


def track(items: Iterable[Item], task: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` and report each as done when the next one is asked for.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    count = len(items) if total is None else total  # type: ignore[arg-type]
    report_progress(task, 0, count)
    for completed, item in enumerate(items, start=1):
        yield item
        report_progress(task, completed, count)
