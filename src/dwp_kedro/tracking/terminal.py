"""Progress on a terminal: bars where there is one, plain lines where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from dwp_kedro.printable import printable_lines
from dwp_kedro.tracking.stage_progress import StageCount

LINE_EVERY_SECONDS = 5.0
HEARTBEAT_AFTER_SECONDS = 8.0


def format_duration(seconds: float) -> str:
    """Write a duration in s, for example 4s, 1m10s, 2h05m.

    >>> format_duration(70)
    '1m10s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


@dataclass
class _Task:
    """Where one task stands; times are those of the display's clock, s."""

    name: str
    started: float
    shown: float
    completed: int = 0
    total: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def count(self) -> str:
        return f"{self.completed}/{self.total}"

    def values(self) -> str:
        return " ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())

    def remaining(self, now: float) -> str:
        if not 0 < self.completed < self.total:
            return ""
        return "eta " + format_duration((now - self.started) / self.completed * (self.total - self.completed))

    def line(self, now: float) -> str:
        """For example 'train dwp n5 split0 seed0: 40/200 loss 0.532 eta 1m10s'."""
        return _join(f"{self.name}: {self.count()}", self.values(), self.remaining(now))

    def last_line(self, now: float) -> str:
        ended = "done" if self.completed >= self.total else "ended early"
        duration = format_duration(now - self.started)
        return _join(f"{self.name}: {self.count()}", self.values(), f"{ended} in {duration}")


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _left(stage: StageCount) -> str:
    return f"about {format_duration(stage.seconds_left())} left"


class Display:
    """Shows the nodes that run and how far their tasks are: a progress listener for any number of threads.

    How it shows them is its subclasses' business.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.RLock()
        self._work: dict[str, float] = {}
        self._tasks: dict[tuple[int, str], _Task] = {}

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Leave the terminal as it was; may be called twice."""

    def begin_work(self, name: str) -> None:
        """Show that ``name`` (a node) is being worked on, unless it is shown already."""
        with self._lock:
            if name not in self._work:
                self._work[name] = self._clock()
                self._work_began(name)

    def end_work(self, name: str) -> None:
        """Show that ``name`` is over, and with it all tasks of the calling thread."""
        with self._lock:
            if self._work.pop(name, None) is not None:
                self._work_ended(name)
            for key in [key for key in self._tasks if key[0] == threading.get_ident()]:
                self._end_task(key)

    def show_stage(self, stage: StageCount) -> None:
        """Show how many nodes of a stage are done, and how long the others will take."""

    def on_progress(self, task: str, completed: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show how far ``task`` is."""
        key = (threading.get_ident(), task)
        with self._lock:
            now = self._clock()
            state = self._tasks.get(key)
            if state is None:
                # A task of another thread or an earlier try may bear the same name: each has its own key.
                state = self._tasks[key] = _Task(task, started=now, shown=now, total=total)
                self._task_began(key, state)
            state.completed, state.total = completed, total
            state.metrics.update(metrics)
            if completed >= total:
                self._end_task(key)
            else:
                self._task_moved(key, state, now)

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Ignore curves: the values worth a glance come with the progress."""

    def print(self, line: str) -> None:
        """Print a line, above the bars if there are any."""
        self._console.print(printable_lines(line), markup=False, highlight=False, soft_wrap=True)

    def _end_task(self, key: tuple[int, str]) -> None:
        state = self._tasks.pop(key)
        self._task_ended(key)
        self.print(state.last_line(self._clock()))

    def _work_began(self, name: str) -> None: ...

    def _work_ended(self, name: str) -> None: ...

    def _task_began(self, key: tuple[int, str], task: _Task) -> None: ...

    def _task_moved(self, key: tuple[int, str], task: _Task, now: float) -> None: ...

    def _task_ended(self, key: tuple[int, str]) -> None: ...


class PlainDisplay(Display):
    """Lines: each task's start, end, and at most one every 5 s; a heartbeat when 8 s went by without any."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._printed = clock()
        self._stages_printed: dict[str, float] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to show."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """End the heartbeat."""
        self._stopped.set()

    def print(self, line: str) -> None:
        """Print a line."""
        with self._lock:
            super().print(line)
            self._printed = self._clock()

    def show_stage(self, stage: StageCount) -> None:
        """Print e.g. 'grid cells (train): 3/8 done, about 12m00s left', at most every 5 s and at the end."""
        with self._lock:
            now = self._clock()
            is_over = stage.done == stage.total
            if stage.done and (is_over or now - self._stages_printed.get(stage.name, -inf) >= LINE_EVERY_SECONDS):
                self._stages_printed[stage.name] = now
                rest = f"in {format_duration(stage.busy)}" if is_over else _left(stage)
                self.print(f"{stage.name}: {stage.count()} done{'' if is_over else ','} {rest}")

    def beat(self) -> None:
        """Say what is being worked on, if nothing was printed for 8 s."""
        with self._lock:
            now = self._clock()
            if now - self._printed >= HEARTBEAT_AFTER_SECONDS:
                for name, began in self._work.items():
                    if now - began >= 1:  # What has only just begun has its own line to come.
                        self.print(f"… still working on {name}, {format_duration(now - began)}")

    def _beat(self) -> None:
        while not self._stopped.wait(1.0):
            self.beat()

    def _task_began(self, key: tuple[int, str], task: _Task) -> None:
        self.print(task.line(self._clock()))

    def _task_moved(self, key: tuple[int, str], task: _Task, now: float) -> None:
        if now - task.shown >= LINE_EVERY_SECONDS:
            task.shown = now
            self.print(task.line(now))


class LiveDisplay(Display):
    """Bars: one row per running node, whose clock runs on, and one per task; a line when a task ends."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._rows: dict[str | tuple[int, str], TaskID] = {}
        # The console is the one that Kedro's logging writes to, so that log lines appear above the bars.
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def start(self) -> None:
        """Begin to show."""
        self._progress.start()

    def stop(self) -> None:
        """Take the bars away."""
        self._progress.stop()

    def show_stage(self, stage: StageCount) -> None:
        """Show a bar from the stage's first node to its last one."""
        key = f"stage: {stage.name}"
        with self._lock:
            if stage.done == stage.total:
                self._progress.remove_task(self._rows.pop(key))
                return
            if key not in self._rows:
                self._rows[key] = self._progress.add_task(stage.name, total=stage.total, note="")
            note = f"{stage.count()} {_left(stage) if stage.done else ''}"
            self._progress.update(self._rows[key], completed=stage.done, note=note)

    def _work_began(self, name: str) -> None:
        self._rows[name] = self._progress.add_task(name, total=None, note="")

    def _work_ended(self, name: str) -> None:
        self._progress.remove_task(self._rows.pop(name))

    def _task_began(self, key: tuple[int, str], task: _Task) -> None:
        self._rows[key] = self._progress.add_task(task.name, total=task.total, note=task.count())

    def _task_moved(self, key: tuple[int, str], task: _Task, now: float) -> None:
        note = _join(task.count(), task.values(), task.remaining(now))
        self._progress.update(self._rows[key], completed=task.completed, total=task.total, note=note)

    def _task_ended(self, key: tuple[int, str]) -> None:
        self._progress.remove_task(self._rows.pop(key))


def make_display(console: Console) -> Display:
    """Return bars for a terminal, lines for anything else."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)
