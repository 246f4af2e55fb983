"""One ``kedro run`` in MLflow: a parent run, and a child per source network, kernel VAE and grid cell."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel

from dwp_kedro.lineage.checksums import checksum
from dwp_kedro.tracking.catalog import layer_of
from dwp_kedro.tracking.curves import CurveListener, Point
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.tracking.node_state import RunningNodes
from dwp_kedro.tracking.run_parameters import (
    GRID_CELL,
    child_of,
    identity,
    node_parameters,
    run_name,
    stage_of,
)

_WEIGHTS = ("checkpoint", "source_posterior", "prior")
"""Last parts of the names of datasets of which MLflow gets the place only."""

_LONGEST_TAG = 5000  # characters, MLflow's own limit
_PICTURES = (".png", ".html")
_UPLOAD_PICTURES = "tracking.upload_pictures"
_MODELS = "tracking.models"
_MODEL_LIBRARIES = ("dwp-kedro", "torch", "monai", "nibabel", "mlflow")
_MODEL_CODE = Path(__file__).parents[1] / "pyfunc_model.py"


@dataclass
class _Child:
    run_id: str
    waiting: dict[str, Node]
    """Nodes of this child that are not over yet, by name."""
    ended: bool = False


def keeps_models(setting: str | None, *, is_server: bool) -> bool:
    """Tell whether cells' networks go to MLflow, by the parameter ``tracking.models`` and where MLflow is."""
    return setting == "always" or (setting == "local" and not is_server)


class PipelineRun:
    """Keeps parent and children in step with the pipeline; safe to call from any thread."""

    def __init__(
        self,
        store: MlflowStore,
        parent: str,
        *,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        environment: str,
        project_path: Path,
        only_missing_outputs: bool,
    ) -> None:
        self._store = store
        self.parent = parent
        self._catalog = catalog
        self._environment = environment
        self._project_path = project_path
        self._only_missing_outputs = only_missing_outputs
        self._lock = threading.RLock()
        self._children: dict[str, _Child] = {}
        self._staged: dict[str, dict[str, Node]] = defaultdict(dict)
        for node in pipeline.nodes:
            if stage_of(node) is not None:
                self._staged[child_of(node)][node.name] = node
        self._nodes = RunningNodes()
        self._curves: dict[str, CurveListener] = {}
        self._last_points: dict[str, Point] = {}
        """The last point of any curve, by run."""

    def begin_node(self, node: Node) -> CurveListener:
        """Open a child run for the first node of a namespace; return the listener of the node's curves."""
        self._nodes.begin(node)
        run_id = self.parent
        if stage_of(node) is not None:
            with self._lock:
                run_id = self._open_child(node).run_id
        curves = CurveListener(lambda points: self._log_curves(run_id, points))
        with self._lock:
            self._curves[node.name] = curves
        return curves

    def end_curves(self, node: Node) -> None:
        """Send the last points of a node whose function returned or failed."""
        with self._lock:
            curves = self._curves.pop(node.name)
        curves.flush()

    def fail_node(self, node: Node, failure: str) -> None:
        """End the node's child as FAILED; the tag ``failure`` says why."""
        self._nodes.end(node)
        with self._lock:
            child = self._children.get(child_of(node))
            if child is not None:
                self._end_child(child, "FAILED", failure)

    def output_saved(self, node: Node, name: str, value: Any) -> None:
        """Log metrics, a checkpoint's or prior's place, tables and figures; end the node with its last output."""
        with self._lock:
            child = self._children.get(child_of(node))
        self._log_output(self.parent if child is None else child.run_id, node, name, value)
        if self._nodes.saved(node, name):
            self.end_node(node)

    def end_node(self, node: Node) -> None:
        """Note that a node is over; end its child as FINISHED if no other node of it is to come."""
        self._nodes.end(node)
        with self._lock:
            child = self._children.get(child_of(node))
            if child is None:
                return
            child.waiting.pop(node.name, None)
            if all(self._is_skipped(other) for other in child.waiting.values()):
                self._end_child(child, "FINISHED")

    def end(self, status: str, failure: str | None) -> None:
        """End the parent, and whatever children are left; ``failure``, why the run failed, is
        their tag of that name.

        After FINISHED none of them has anything to do. After FAILED, a child whose node had not ended failed
        with it, others were KILLED. After KILLED, so were all, and the parent is FAILED and says why.
        """
        with self._lock:
            curves, self._curves = self._curves, {}
            for listener in curves.values():
                listener.flush()
            running = self._nodes.names()
            for child in self._children.values():
                cut_short = status == "FAILED" and not running.intersection(child.waiting)
                self._end_child(child, "KILLED" if cut_short else status, None if cut_short else failure)
            if status == "FINISHED":
                self._finish_records()
        if status == "KILLED":
            self._store.set_tag(self.parent, "stopped", "by the user or the system; resume it")
        self._end_run(self.parent, "FINISHED" if status == "FINISHED" else "FAILED", failure)

    def smallest_cells(self) -> tuple[int | None, list[str], set[str]]:
        """Return the smallest train size in the pipeline's grid, its cells' latest finished runs, and methods.

        Cells that an earlier run finished count too: a resumed run does not repeat them.
        """
        cells = {
            child: identity(child, self._environment, {})
            for child, nodes in self._staged.items()
            if any(stage_of(node) == GRID_CELL for node in nodes.values())
        }
        numbers = {int(cell["n_train"]) for cell in cells.values() if cell["n_train"].isdigit()}
        if not numbers:
            return None, [], set()
        n_train = min(numbers)
        chosen = {child: cell for child, cell in cells.items() if cell["n_train"] == str(n_train)}
        names = {run_name(child) for child in chosen}
        condition = f"tags.stage = '{GRID_CELL}' and params.n_train = '{n_train}'"
        methods = {cell["method"] for cell in chosen.values()}
        return n_train, self._store.latest_finished(names, condition), methods

    def local_path(self, name: str) -> Path | None:
        """Return a dataset's path on this machine, or None if it has none or nothing is there."""
        dataset: Any = self._catalog.get(name)
        if getattr(dataset, "_protocol", "file") != "file" or not hasattr(dataset, "_filepath"):
            return None
        versioned = hasattr(dataset, "_get_load_path") and self._catalog.exists(name)
        path = Path(str(dataset._get_load_path() if versioned else dataset._filepath))
        path = path if path.is_absolute() else self._project_path / path
        return path if path.exists() else None

    def _open_child(self, node: Node) -> _Child:
        key = child_of(node)
        if key not in self._children:
            run_id = self._store.start_run(run_name(key), {"stage": str(stage_of(node))}, parent=self.parent)
            # Of all its nodes, also those that a resumed run skips: every child of a stage has the same keys.
            names = {name for other in self._staged[key].values() for name in other.inputs}
            inputs = {name: self._load(name) for name in sorted(names) if name.startswith("params:")}
            parameters = node_parameters(inputs)
            self._store.log_parameters(run_id, parameters | identity(key, self._environment, parameters))
            self._children[key] = _Child(run_id, dict(self._staged[key]))
            for other in self._staged[key].values():
                if self._is_skipped(other):
                    self._log_made(run_id, other)
        return self._children[key]

    def _load(self, name: str) -> Any:
        dataset: Any = self._catalog.get(name)  # Not catalog.load, which would log it as the run's own doing.
        return dataset.load()

    def _end_child(self, child: _Child, status: str, failure: str | None = None) -> None:
        if not child.ended:
            child.ended = True
            self._end_run(child.run_id, status, failure)

    def _end_run(self, run_id: str, status: str, failure: str | None) -> None:
        if failure is not None:
            self._store.set_tag(run_id, "failure", failure[:_LONGEST_TAG])
        self._store.end_run(run_id, status)

    def _is_skipped(self, node: Node) -> bool:
        """Tell whether --only-missing-outputs leaves the node out; Kedro decides that after its hooks ran."""
        return (
            self._only_missing_outputs
            and node.name not in self._nodes.names()
            and bool(node.outputs)
            and all(self._catalog.exists(name) for name in node.outputs)
        )

    def _finish_records(self) -> None:
        """Complete the runs of what was made by a process that was killed before MLflow knew of it."""
        done = {run_name(key): key for key in self._staged if key not in self._children}
        for name, run_id in self._store.latest_cut_short(set(done), "stage").items():
            last = self._store.last_point(run_id)
            if last is not None:
                self._last_points[run_id] = last
            for node in self._staged[done[name]].values():
                self._log_made(run_id, node)
            self._store.set_tag(run_id, "completed_by", self.parent)
            self._store.end_run(run_id, "FINISHED")

    def _log_made(self, run_id: str, node: Node) -> None:
        """Log the outputs of a node that another process ran."""
        for name in node.outputs:
            value = self._load(name) if name.endswith((".metrics", ".checkpoint")) else None
            self._log_output(run_id, node, name, value)

    def _log_output(self, run_id: str, node: Node, name: str, value: Any) -> None:
        kind = name.rsplit(".", 1)[-1]
        if kind == "metrics":
            self._log_final(run_id, value)
        if kind in _WEIGHTS:
            self._log_place(run_id, name, kind)
        if (
            kind == "checkpoint"
            and stage_of(node) == GRID_CELL
            and keeps_models(self._setting(_MODELS), is_server=self._store.is_server)
        ):
            self._log_model(run_id, name, value.metadata["input"]["channels"])
        if layer_of(self._catalog, name) == "reporting":
            self._log_file(run_id, name)

    def _log_curves(self, run_id: str, points: list[Point]) -> None:
        self._store.log_points(run_id, points)
        with self._lock:
            known = [self._last_points[run_id]] if run_id in self._last_points else []
            self._last_points[run_id] = max(points + known, key=lambda point: (point.step, point.timestamp))

    def _log_final(self, run_id: str, metrics: Mapping[str, Any]) -> None:
        """Log final values where the curves end: MLflow's latest value is that of the last step, then time."""
        timestamp, step = time.time_ns() // 1_000_000, 0
        with self._lock:
            last = self._last_points.get(run_id)
        if last is not None:
            timestamp, step = max(timestamp, last.timestamp + 1), last.step
        points = [
            Point(name, float(value), timestamp, step)
            for name, value in metrics.items()
            if isinstance(value, Real)
        ]
        self._store.log_points(run_id, points)

    def _log_place(self, run_id: str, name: str, kind: str) -> None:
        path = self.local_path(name)
        if path is None:
            return
        shown = path.relative_to(self._project_path) if path.is_relative_to(self._project_path) else path
        self._store.log_json(run_id, {"dataset": name, "path": shown.as_posix()}, f"{kind}.json")
        self._store.set_tag(run_id, kind, shown.as_posix())
        self._store.set_tag(run_id, f"{kind}_sha256", checksum(path))

    def _log_file(self, run_id: str, name: str) -> None:
        path = self.local_path(name)
        if path is None:
            return
        if self._store.is_server and path.suffix in _PICTURES and self._setting(_UPLOAD_PICTURES) is not True:
            self._store.set_tag(run_id, "pictures", f"not uploaded: the parameter {_UPLOAD_PICTURES} is not true")
            return
        self._store.log_path(run_id, path, name.split(".", 1)[0])

    def _log_model(self, run_id: str, name: str, n_channels: int) -> None:
        path = self.local_path(name)
        if path is not None:
            requirements = [f"{library}=={version(library)}" for library in _MODEL_LIBRARIES]
            given = self._load("params:new_scans")
            settings = given.model_dump(mode="json") if isinstance(given, BaseModel) else given
            # The machine that will use the model is another one, perhaps.
            settings = {**settings, "device": "auto", "precision": "auto"}
            example = "|".join(f"new/patient_1_{channel:04d}.nii.gz" for channel in range(n_channels))
            self._store.log_model(run_id, _MODEL_CODE, path, settings, requirements, example)

    def _setting(self, parameter: str) -> Any:
        name = f"params:{parameter}"
        return self._load(name) if name in self._catalog else None
