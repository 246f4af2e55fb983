from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro import progress
from dwp_kedro.tracking.runners import SequentialRunner, ThreadRunner
from dwp_kedro.tracking.terminal_hook import TerminalHook
from dwp_kedro.tracking.upstream_hook import MissingUpstreamError, UpstreamHook


def count_to_three(task: str) -> int:
    return sum(1 for _ in progress.track(range(3), task))


def counting(*tasks: str) -> Pipeline:
    return Pipeline([node(lambda task=task: count_to_three(task), None, task, name=task) for task in tasks])


@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner()], ids=["sequential", "threads"])
def test_progress_of_every_node_is_shown(
    tmp_path: Path, run_pipeline: Any, runner: Any, capsys: pytest.CaptureFixture[str]
):
    run_pipeline(counting("a", "b", "c"), DataCatalog(), (TerminalHook(),), tmp_path, runner=runner)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(line for line in printed if line[:2] in ("a:", "b:", "c:")) == sorted(
        f"{task}: {line}" for task in "abc" for line in ("0/3", "3/3 done in 0s")
    )


@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner()], ids=["sequential", "threads"])
def test_finished_units_of_a_stage_are_counted_without_those_of_an_earlier_run(
    tmp_path: Path, run_pipeline: Any, runner: Any, capsys: pytest.CaptureFixture[str]
):
    cells = [f"target_evaluation.dwp.n5_split{split}_seed0" for split in range(4)]
    catalog = DataCatalog.from_config(
        {"{cell}.checkpoint": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/{{cell}}.json"}}
    )
    catalog.save(f"{cells[2]}.checkpoint", "of an earlier run")
    trainings = [
        node(lambda: "weights", None, f"{cell}.checkpoint", name="train", namespace=cell, tags="stage.grid_cell")
        for cell in cells
    ]
    run_pipeline(
        Pipeline(trainings), catalog, (TerminalHook(),), tmp_path, runner=runner, only_missing_outputs=True
    )
    printed = [line for line in capsys.readouterr().out.splitlines() if "grid cells" in line]
    assert printed[0].startswith("grid cells (train): 1/3 done, about")
    assert printed[-1].startswith("grid cells (train): 3/3 done in")


def test_nobody_listens_after_a_run(tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]):
    run_pipeline(counting("a"), DataCatalog(), (TerminalHook(),), tmp_path)
    capsys.readouterr()
    count_to_three("later")
    assert capsys.readouterr().out == ""


def test_a_failed_run_says_how_to_resume(
    tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["/venv/bin/kedro", "run", "--env", "big lab", "--runner=ThreadRunner"])
    with pytest.raises(ZeroDivisionError):
        run_pipeline(
            Pipeline([node(lambda: 1 / 0, None, "x", name="x")]), DataCatalog(), (TerminalHook(),), tmp_path
        )
    expected = "kedro run --env 'big lab' --runner=ThreadRunner --only-missing-outputs"
    assert expected in capsys.readouterr().out


def test_a_refused_run_leaves_the_terminal_alone(
    tmp_path: Path, run_pipeline: Any, capsys: pytest.CaptureFixture[str]
):
    before = signal.getsignal(signal.SIGINT)
    hooks = (TerminalHook(), UpstreamHook())
    with pytest.raises(MissingUpstreamError):
        run_pipeline(Pipeline([node(len, "absent", "x", name="x")]), DataCatalog(), hooks, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert hooks[0]._display is None
    assert "resume" not in capsys.readouterr().out


@pytest.mark.parametrize(("signum", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_stops_running_and_queued_threads(
    tmp_path: Path, run_pipeline: Any, signum: signal.Signals, error: type[BaseException],
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    """Without help, ThreadRunner would go on for 4 nodes × 10 s."""
    started: list[int] = []
    finished: list[int] = []
    both_run = threading.Barrier(3, timeout=20)

    def work(index: int) -> int:
        started.append(index)
        both_run.wait()
        for _ in progress.track(range(1000), f"work {index}"):
            time.sleep(0.01)
        finished.append(index)
        return index

    def interrupt() -> None:
        both_run.wait()
        time.sleep(0.3)  # Python may not see a signal at the very moment its main thread begins to wait.
        # As the system does with signals from outside; from inside, any thread may get it.
        signal.pthread_kill(threading.main_thread().ident, signum)

    pipeline = Pipeline([node(lambda i=i: work(i), None, f"out_{i}", name=f"node_{i}") for i in range(4)])
    hook = TerminalHook()
    threading.Thread(target=interrupt).start()
    with pytest.raises(error):
        run_pipeline(pipeline, DataCatalog(), (hook,), tmp_path, runner=ThreadRunner(max_workers=2))
    assert len(started) == 2
    assert not finished
    hook._exit()  # What Python calls at exit.
    assert f"stopped by {'Ctrl-C' if signum is signal.SIGINT else 'SIGTERM'}" in capsys.readouterr().out
