"""Commands of Kedro in processes that are forked from one which has imported everything, and ways to end them.

Python, Kedro, PyTorch and MLflow take ten seconds to start, a fork takes none.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

LOG = "terminal.txt"
"""What the commands print, in the project's folder."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "kedro.framework.cli",
        "kedro.framework.session",
        "kedro_viz.integrations.kedro.hooks",
        "alembic.command",
        "mlflow.pyfunc",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.system_metrics.system_metrics_monitor",
        "matplotlib.pyplot",
        "plotly.graph_objects",
        "monai.networks.nets",
        "dwp_kedro.datasets.atomic",
        "dwp_kedro.settings",
        "dwp_kedro.pipeline_registry",
    ]
)
_LAST_SECONDS = 900

Moment = Literal["open", "write", "rename", "remove", "statement", "processor"]


@dataclass(frozen=True)
class Kill:
    """When a process is ended by a signal that nothing in it can handle: the ``number``-th ``moment``.

    The moments: before it opens one of the project's files to write to it; in the middle of what it then writes
    first; before it renames one, removes one, sends a statement to the database; or after ``number`` milliseconds
    of its processor's time.
    """

    moment: Moment
    number: int


def start(
    project: Path,
    *arguments: str,
    kill: Kill | None = None,
    file_size: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start ``kedro ARGUMENTS`` in a project's folder; files cannot grow beyond ``file_size`` bytes."""
    process = _SERVER.Process(target=_run, args=(project, arguments, kill, file_size, dict(environment or {})))
    process.start()
    return process


def end(process: BaseProcess) -> int:
    """Wait for the end; return the exit status, negative for a signal."""
    process.join(_LAST_SECONDS)
    status = process.exitcode
    if status is None:
        process.kill()
        raise TimeoutError(f"a command has not ended after {_LAST_SECONDS} s")
    return status


def run(project: Path, *arguments: str, **how: Any) -> int:
    """Start a command and wait for its end."""
    return end(start(project, *arguments, **how))


def printed(project: Path) -> str:
    """All that commands have printed in this project so far."""
    return (project / LOG).read_text(encoding="utf-8", errors="replace")


def _run(
    project: Path,
    arguments: tuple[str, ...],
    kill: Kill | None,
    file_size: int | None,
    environment: dict[str, str],
) -> None:
    log = os.open(project / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    for name in ("MLFLOW_TRACKING_URI", "DWP_DATA_ROOT", "KEDRO_ENV"):
        os.environ.pop(name, None)
    os.environ.update({"COLUMNS": "200", **environment})
    os.chdir(project)
    sys.argv = ["kedro", *arguments]
    from kedro.framework.cli import main

    if kill is not None:
        _arm(kill, project)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
    status: Any = 1
    try:
        main()
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    os._exit(status)


def _arm(kill: Kill, project: Path) -> None:
    if kill.moment == "processor":
        signal.setitimer(signal.ITIMER_PROF, kill.number / 1000)  # SIGPROF, of which Python knows nothing
        return
    strike = _end_in_next_write if kill.moment == "write" else _end_now
    left = kill.number

    def meet() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            strike()

    if kill.moment == "statement":
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "before_cursor_execute", lambda *_: meet())
        return
    if kill.moment == "write":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    sys.addaudithook(_listener(kill.moment, project, meet))


def _listener(moment: Moment, project: Path, meet: Callable[[], None]) -> Callable[[str, tuple[Any, ...]], None]:
    folder = f"{project}/"
    kind = {"rename": "os.rename", "remove": "os.remove"}.get(moment, "open")

    def listen(what: str, arguments: tuple[Any, ...]) -> None:
        if what != kind or not str(arguments[0]).startswith(folder):
            return
        if what != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR):
            meet()

    return listen


def _end_now() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _end_in_next_write() -> None:
    """Let the system end this process, by SIGXFSZ, when it has written 16 bytes of a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
