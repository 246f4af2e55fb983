"""The few calls to MLflow that this project makes, each for a run named by its id.

MLflow is imported on construction: it takes seconds, and most Kedro commands need none of it. The fluent API
(``mlflow.start_run`` and so on) is avoided, because its active run is one per thread.

What goes to the experiment: parameters, metrics, load of the machine, tables (with the subjects' names), charts.
Pictures and pages that show scans (contact sheets, segmentations, the report) go to a local experiment only,
unless the parameter ``tracking.upload_pictures`` is true. Volumes never do. Weights do where
``tracking.log_models`` is true: each grid cell's as an MLflow model.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from dwp_kedro.tracking.comparison import SHARED_VIEW
from dwp_kedro.tracking.curves import Point

_METRICS_PER_BATCH = 1000  # MLflow's own limits.
_PARAMETERS_PER_BATCH = 100
_SERVER_TIMEOUT_SECONDS = 10
_CLOCK_TOLERANCE_SECONDS = 1.0


class TrackingError(RuntimeError):
    """MLflow cannot be reached or used; the message says where it was sought and what to do."""


class MlflowStore:
    """One experiment of a tracking server or database; safe to call from any thread."""

    def __init__(self, project_path: Path, experiment: str) -> None:
        """Open the experiment, and make it if need be.

        The address is MLFLOW_TRACKING_URI, or else ``mlflow.db`` in the project's folder.

        Raises:
            TrackingError: if nothing answers there.
        """
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_path.as_posix()}/mlflow.db"
        self.is_server = self.uri.startswith(("http://", "https://"))
        if self.is_server:
            _reach(self.uri)  # MLflow itself would try for minutes before it says so.
        # MLflow's makers need not hear of each use.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # It would write into our own bars.
        from mlflow import MlflowClient, entities

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._entities = entities
        self._lock = threading.Lock()  # SQLite has one writer at a time, and refuses others after a while.
        try:
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._open_experiment(project_path, experiment)
        except Exception as error:
            raise _unusable(self.uri, error) from error
        self._system_monitors: dict[str, Any] = {}

    def _open_experiment(self, project_path: Path, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server has its own place for artifacts; for a database this process is the server.
            location = None if self.is_server else (project_path / "mlruns" / name).as_uri()
            return str(self._client.create_experiment(name, artifact_location=location))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def start_run(self, name: str, tags: Mapping[str, str], parent: str | None = None) -> str:
        """Start a run, a child if ``parent`` is given, and return its id."""
        process = psutil.Process()
        tags = {
            **tags,
            "process_host": socket.gethostname(),
            "process_id": str(process.pid),
            "process_started": repr(process.create_time()),
        }
        if parent is not None:
            tags |= {"mlflow.parentRunId": parent, "parent_run_id": parent}
        with self._lock:
            return str(self._client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id)

    def log_parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        """Log parameters; a value, once logged, cannot change."""
        entries = [self._entities.Param(key, value) for key, value in parameters.items()]
        for start in range(0, len(entries), _PARAMETERS_PER_BATCH):
            with self._lock:
                self._client.log_batch(
                    run_id, params=entries[start : start + _PARAMETERS_PER_BATCH], synchronous=True
                )

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Log points of curves, or final values."""
        entries = [self._entities.Metric(*point) for point in points]
        for start in range(0, len(entries), _METRICS_PER_BATCH):
            with self._lock:
                self._client.log_batch(
                    run_id, metrics=entries[start : start + _METRICS_PER_BATCH], synchronous=True
                )

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag."""
        with self._lock:
            self._client.set_tag(run_id, key, value)

    def tag(self, run_id: str, key: str) -> str | None:
        """Return a tag of any run, or None if it has none of that key.

        Raises:
            TrackingError: if there is no such run.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id).data.tags.get(key)
        except MlflowException as error:
            raise TrackingError(
                f"MLflow has no run {run_id} at {self.uri}; look its id up there, or set MLFLOW_TRACKING_URI"
            ) from error

    def share_view(self, name: str, state: Mapping[str, Any]) -> None:
        """Let addresses that end in ``?viewStateShareKey=name`` show the experiment's runs in this state."""
        with self._lock:
            self._client.set_experiment_tag(self.experiment_id, f"{SHARED_VIEW}{name}", json.dumps(state))

    def log_json(self, run_id: str, content: dict[str, Any], file: str) -> None:
        """Store ``content`` as the artifact ``file``."""
        with self._lock:
            self._client.log_dict(run_id, content, file)

    def log_path(self, run_id: str, path: Path, folder: str) -> None:
        """Copy a file, or a folder's files, to the artifact folder ``folder``."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with self._lock:
            log(run_id, str(path), folder)

    def log_model(
        self,
        run_id: str,
        code: Path,
        checkpoint: Path,
        settings: dict[str, Any],
        requirements: list[str],
        example: str,
    ) -> None:
        """Store a checkpoint as the artifact folder ``model``, an MLflow model that runs the file ``code``.

        A copy of the file is kept, not a pickled object. Its input is a text per scan, such as ``example``;
        ``settings`` are what it runs with unless ``load_model`` is given others; ``requirements`` are pip's.
        """
        from mlflow import pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            pyfunc.save_model(
                model,
                python_model=str(code),
                artifacts={"checkpoint": checkpoint.as_uri()},
                pip_requirements=requirements,
                model_config=settings,
                # A column without a name: with one, MLflow would refuse lists, arrays and single paths.
                signature=ModelSignature(inputs=Schema([ColSpec(DataType.string)])),
                input_example=[example],
            )
            self.log_path(run_id, model, "model")

    def end_run(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        monitor = self._system_monitors.pop(run_id, None)
        if monitor is not None:
            monitor.finish()
        with self._lock:
            self._client.set_terminated(run_id, status)

    def monitor_system(self, run_id: str) -> None:
        """Log CPU, memory, disk, network and GPU load to a run until it ends."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, tracking_uri=self.uri)
        monitor.start()
        self._system_monitors[run_id] = monitor

    def end_dead_runs(self) -> list[str]:
        """End as FAILED all runs whose process on this machine is gone, and return their ids."""
        running = self._client.search_runs(
            [self.experiment_id],
            f"attributes.status = 'RUNNING' and tags.process_host = '{socket.gethostname()}'",
        )
        dead = [run.info.run_id for run in running if not _process_lives(run.data.tags)]
        for run_id in dead:
            self.set_tag(run_id, "ended_by", "the next run: the process was gone")
            self.end_run(run_id, "FAILED")
        return dead

    def latest_finished(self, names: set[str], filter_string: str) -> list[str]:
        """Return the id of the latest FINISHED run of each of ``names`` among those that pass the filter."""
        latest: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                f"attributes.status = 'FINISHED' and {filter_string}",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in page:
                if run.info.run_name in names:
                    latest.setdefault(run.info.run_name, run.info.run_id)
            token = page.token
            if not token:
                return [latest[name] for name in sorted(latest)]


def _process_lives(tags: Mapping[str, str]) -> bool:
    try:
        started = psutil.Process(int(tags["process_id"])).create_time()
    except psutil.NoSuchProcess:
        return False
    return abs(started - float(tags["process_started"])) < _CLOCK_TOLERANCE_SECONDS


def _reach(uri: str) -> None:
    try:
        with urllib.request.urlopen(uri, timeout=_SERVER_TIMEOUT_SECONDS):
            pass
    except urllib.error.HTTPError:
        pass  # It answered; whether it lets us in, MLflow finds out with the user's credentials.
    except (OSError, ValueError) as error:
        raise _unusable(uri, error) from error


def _unusable(uri: str, error: Exception) -> TrackingError:
    return TrackingError(
        f"MLflow cannot be used at {uri}: {error}\n"
        "Start that server, or set MLFLOW_TRACKING_URI to another one; without MLFLOW_TRACKING_URI runs are "
        "kept in mlflow.db in the project's folder."
    )
