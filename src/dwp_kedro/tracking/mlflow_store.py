"""The few calls to MLflow that this project makes, each for a run named by its id.

MLflow is imported on construction: it takes seconds, and most Kedro commands need none of it. The fluent API
(``mlflow.start_run`` and so on) is avoided, because its active run is one per thread.

What goes to the experiment: parameters, metrics, load of the machine, tables (with the subjects' names), charts.
Pictures and pages that show scans (contact sheets, segmentations, the report) go to a local experiment only,
unless the parameter ``tracking.upload_pictures`` is true. So do weights, each grid cell's as an MLflow model,
unless ``tracking.models`` says otherwise. Volumes never do.
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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from dwp_kedro.tracking.comparison import SHARED_VIEW
from dwp_kedro.tracking.curves import Point
from dwp_kedro.tracking.mlflow_database import make_database
from dwp_kedro.tracking.tracking_error import DATABASE, TrackingError, unusable

_METRICS_PER_BATCH = 1000  # MLflow's own limits.
_PARAMETERS_PER_BATCH = 100
_SERVER_TIMEOUT_SECONDS = 10
_CLOCK_TOLERANCE_SECONDS = 1.0


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
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # Its tracebacks are told in a line.
        self._entities = entities
        self._lock = threading.Lock()
        try:
            if self.uri.startswith(DATABASE):
                make_database(Path(self.uri.removeprefix(DATABASE)))
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._open_experiment(project_path, experiment)
        except Exception as error:
            raise unusable(self.uri, error) from error
        self._system_monitors: dict[str, Any] = {}

    def _open_experiment(self, project_path: Path, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server has its own place for artifacts; for a database this process is the server.
            location = None if self.is_server else (project_path / "mlruns" / name).as_uri()
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)  # Another run was quicker.
                assert found is not None
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one thread write at a time, because SQLite has one writer, and tell errors in words.

        Other processes wait for their turn for up to 20 s, which MLflow asks SQLite for.
        """
        from mlflow.exceptions import MlflowException

        with self._lock:
            try:
                yield
            except (MlflowException, OSError) as error:
                raise unusable(self.uri, error) from error

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
        with self._writing():
            return str(self._client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id)

    def log_parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        """Log parameters; a value, once logged, cannot change."""
        entries = [self._entities.Param(key, value) for key, value in parameters.items()]
        for start in range(0, len(entries), _PARAMETERS_PER_BATCH):
            with self._writing():
                self._client.log_batch(
                    run_id, params=entries[start : start + _PARAMETERS_PER_BATCH], synchronous=True
                )

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Log points of curves, or final values."""
        entries = [self._entities.Metric(*point) for point in points]
        for start in range(0, len(entries), _METRICS_PER_BATCH):
            with self._writing():
                self._client.log_batch(
                    run_id, metrics=entries[start : start + _METRICS_PER_BATCH], synchronous=True
                )

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag."""
        with self._writing():
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
        with self._writing():
            self._client.set_experiment_tag(self.experiment_id, f"{SHARED_VIEW}{name}", json.dumps(state))

    def log_json(self, run_id: str, content: dict[str, Any], file: str) -> None:
        """Store ``content`` as the artifact ``file``."""
        with self._writing():
            self._client.log_dict(run_id, content, file)

    def log_path(self, run_id: str, path: Path, folder: str) -> None:
        """Copy a file, or a folder's files, to the artifact folder ``folder``."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with self._writing():
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
        with self._writing():
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
        latest = self._latest(names, f"attributes.status = 'FINISHED' and {filter_string}")
        return [latest[name] for name in sorted(latest)]

    def latest_cut_short(self, names: set[str], tag: str) -> dict[str, str]:
        """Return, by name, the latest run of each of ``names`` of which no run with ``tag`` is FINISHED."""
        finished = self._latest(names, f"attributes.status = 'FINISHED' and tags.{tag} != ''")
        return self._latest(names - finished.keys(), f"attributes.status != 'RUNNING' and tags.{tag} != ''")

    def last_point(self, run_id: str) -> Point | None:
        """Return the last point of any of the run's curves, None if it has none."""
        points = [
            Point(metric.key, metric.value, metric.timestamp, metric.step)
            for name in self._client.get_run(run_id).data.metrics
            for metric in self._client.get_metric_history(run_id, name)
        ]
        return max(points, key=lambda point: (point.step, point.timestamp), default=None)

    def _latest(self, names: set[str], filter_string: str) -> dict[str, str]:
        latest: dict[str, str] = {}
        token = None
        while names:
            page = self._client.search_runs(
                [self.experiment_id], filter_string, order_by=["attributes.start_time DESC"], page_token=token
            )
            for run in page:
                if run.info.run_name in names:
                    latest.setdefault(run.info.run_name, run.info.run_id)
            token = page.token
            if not token:
                break
        return latest


def _process_lives(tags: Mapping[str, str]) -> bool:
    try:
        process = psutil.Process(int(tags["process_id"]))
        started, status = process.create_time(), process.status()
    except psutil.NoSuchProcess:
        return False
    is_same = abs(started - float(tags["process_started"])) < _CLOCK_TOLERANCE_SECONDS
    return is_same and status != psutil.STATUS_ZOMBIE  # dead, though its parent has not asked how it ended


def _reach(uri: str) -> None:
    try:
        with urllib.request.urlopen(uri, timeout=_SERVER_TIMEOUT_SECONDS):
            pass
    except urllib.error.HTTPError:
        pass  # It answered; whether it lets us in, MLflow finds out with the user's credentials.
    except (OSError, ValueError) as error:
        raise unusable(uri, error) from error
