"""Ctrl-C and SIGTERM that stop every thread of a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Turns Ctrl-C into KeyboardInterrupt and SIGTERM into SystemExit, in the main thread and in all others.

    Python raises KeyboardInterrupt in the main thread only, and Kedro's ThreadRunner then waits for every
    node that is running or queued. Nodes call :meth:`check` as they report progress, which ends them too.
    A second signal acts as if this class were not there.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Listen to the signals, unless they are ignored (nohup); only the main thread of Python may."""
        self.signal = None
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in _SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._stop)

    def restore(self) -> None:
        """Give the signals back to whoever had them before."""
        if threading.current_thread() is not threading.main_thread():
            return
        while self._previous:
            signal.signal(*self._previous.popitem())

    def check(self) -> None:
        """Raise KeyboardInterrupt or SystemExit if the run was asked to stop."""
        if self.signal is signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)  # The exit status that shells give to a killed program.

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(signum)
        self.restore()
        self.check()
