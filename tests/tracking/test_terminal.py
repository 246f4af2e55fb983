from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from dwp_kedro.tracking.stage_progress import StageCount
from dwp_kedro.tracking.terminal import LiveDisplay, PlainDisplay, format_duration, make_display

TASK = "train dwp n5 split0 seed0"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (70, "1m10s"), (7500, "2h05m")]
)
def test_durations(seconds: float, text: str):
    assert format_duration(seconds) == text


def test_lines_at_start_end_and_every_five_seconds(clock: Clock, console: Console):
    display = PlainDisplay(console, clock)
    for step in range(161):
        display.on_progress(TASK, step, 160, {"loss": 1 - step / 320} if step else {})
        clock.now += 0.125
    # 1/8 s a step: a line each 40 steps. After 40 steps in 5 s, 120 are left: 15 s.
    assert lines(console) == [
        f"{TASK}: 0/160",
        f"{TASK}: 40/160 loss 0.875 eta 15s",
        f"{TASK}: 80/160 loss 0.75 eta 10s",
        f"{TASK}: 120/160 loss 0.625 eta 5s",
        f"{TASK}: 160/160 loss 0.5 done in 20s",
    ]


def test_heartbeat_after_eight_silent_seconds(clock: Clock, console: Console):
    display = PlainDisplay(console, clock)
    display.begin_work("score")
    for _ in range(24):
        clock.now += 1
        display.beat()
    display.end_work("score")
    clock.now += 60
    display.beat()
    assert lines(console) == [f"… still working on score, {seconds}s" for seconds in (8, 16, 24)]


def test_progress_lines_keep_the_heartbeat_quiet(clock: Clock, console: Console):
    display = PlainDisplay(console, clock)
    display.begin_work("train")
    for step in range(40):
        display.on_progress(TASK, step, 100, {})
        display.beat()
        clock.now += 1
    assert not [line for line in lines(console) if "still working" in line]


def test_a_node_ends_only_its_own_threads_tasks(clock: Clock, console: Console):
    display = PlainDisplay(console, clock)
    display.begin_work("this node")
    display.on_progress("mine", 3, 10, {})
    thread = threading.Thread(target=display.on_progress, args=("other", 1, 2, {}))
    thread.start()
    thread.join()
    clock.now += 4
    display.end_work("this node")
    assert lines(console)[-1] == "mine: 3/10 ended early in 4s"
    assert not [line for line in lines(console) if line.startswith("other") and "ended" in line]


def test_same_task_again_starts_anew(clock: Clock, console: Console):
    display = PlainDisplay(console, clock)
    for _ in range(2):
        display.on_progress("count", 0, 1, {})
        clock.now += 2
        display.on_progress("count", 1, 1, {})
    assert lines(console) == ["count: 0/1", "count: 1/1 done in 2s"] * 2


def test_a_long_line_is_not_wrapped(clock: Clock, console: Console):
    PlainDisplay(console, clock).on_progress("x" * 200, 0, 10, {})
    assert lines(console) == ["x" * 200 + ": 0/10"]


def test_bars_for_a_terminal_show_node_task_and_metrics():
    console = Console(file=io.StringIO(), width=150, force_terminal=True)
    display = make_display(console)
    assert isinstance(display, LiveDisplay)
    display.start()
    display.begin_work("some.node")
    display.on_progress("[epoch]", 0, 4, {})  # Brackets are no markup.
    display.on_progress("[epoch]", 1, 4, {"loss": 0.532})
    shown = Console(file=io.StringIO(), width=150)
    shown.print(display._progress.get_renderable())
    bars = shown.file.getvalue()
    assert all(text in bars for text in ("some.node", "[epoch]", "1/4 loss 0.532 eta"))
    display.on_progress("[epoch]", 4, 4, {})
    display.end_work("some.node")
    assert display._progress.tasks == []
    display.stop()
    assert "[epoch]: 4/4 loss 0.532 done in 0s" in console.file.getvalue()


def test_lines_where_there_is_no_terminal(console: Console):
    assert isinstance(make_display(console), PlainDisplay)


def test_lines_of_a_stage(clock: Clock, console: Console):
    display = PlainDisplay(console, clock)
    for done in range(9):
        display.show_stage(StageCount("grid cells (train)", 8, done, busy=144.0 * done))
        clock.now += 3
    # Every 3 s, which is every second one of them; the last in any case.
    assert lines(console) == [
        "grid cells (train): 1/8 done, about 16m48s left",
        "grid cells (train): 3/8 done, about 12m00s left",
        "grid cells (train): 5/8 done, about 7m12s left",
        "grid cells (train): 7/8 done, about 2m24s left",
        "grid cells (train): 8/8 done in 19m12s",
    ]


def test_bar_of_a_stage():
    console = Console(file=io.StringIO(), width=150, force_terminal=True)
    display = LiveDisplay(console)
    display.show_stage(StageCount("grid cells (train)", 8))
    display.show_stage(StageCount("grid cells (train)", 8, 3, busy=432.0))
    shown = Console(file=io.StringIO(), width=150)
    shown.print(display._progress.get_renderable())
    assert "3/8 about 12m00s left" in shown.file.getvalue()
    (bar,) = display._progress.tasks
    assert (bar.completed, bar.total) == (3, 8)
    display.show_stage(StageCount("grid cells (train)", 8, 8, busy=1152.0))
    assert display._progress.tasks == []
