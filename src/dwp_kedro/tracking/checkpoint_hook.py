"""The hook that finds the checkpoints of a prediction: files, grid cells, MLflow runs."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.lineage.checksums import checksum
from dwp_kedro.tracking.command import shell_name
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.tracking.run_options import run_options
from dwp_kedro.tracking.tracking_error import TrackingError

CHECKPOINTS = "prediction.checkpoints"
_CELL = re.compile(r"\w+\.n\d+_split\d+_seed\d+")
_RUN = re.compile(r"(runs:/)?(?P<run_id>[0-9a-f]{32})(/.*)?")


class CheckpointNotFoundError(Exception):
    """What the parameter ``checkpoint`` names is not there; the message says what was sought where."""


class CheckpointHook:
    """Turns what the parameter ``checkpoint`` names into files, before anything else asks whether they exist."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Point the dataset ``prediction.checkpoints`` to the files, if this run reads it.

        Raises:
            CheckpointNotFoundError: a file, cell or run is not there.
            TrackingError: MLflow cannot be reached, or has no such run.
        """
        if CHECKPOINTS not in pipeline.inputs():
            return
        parameter: Any = catalog.get("params:checkpoint")
        finder = _Finder(run_params, catalog)
        dataset: Any = catalog.get(CHECKPOINTS)
        dataset.point_to([str(finder.find(reference)) for reference in split_references(parameter.load())])


def split_references(given: Any) -> list[str]:
    """Return the single references of the parameter: a text parted by ``;``, or a list.

    >>> split_references("a.safetensors; dwp.n5_split0_seed0")
    ['a.safetensors', 'dwp.n5_split0_seed0']
    """
    items = given.split(";") if isinstance(given, str) else given
    if isinstance(items, list) and items and all(isinstance(item, str) and item.strip() for item in items):
        return [item.strip() for item in items]
    raise CheckpointNotFoundError(
        f"checkpoint is {given!r}: say which, for example --params checkpoint=dwp.n5_split0_seed0; a file, a grid "
        "cell or the id of its MLflow run, or several parted by ; (in quotes)"
    )


class _Finder:
    def __init__(self, run_params: dict[str, Any], catalog: CatalogProtocol) -> None:
        self._run_params = run_params
        self._project_path = Path(run_params["project_path"])
        self._catalog = catalog

    def find(self, reference: str) -> Path:
        """Return the file that a reference names; a relative path starts in the project's folder."""
        file = self._project_path / reference
        if file.is_file():
            return file
        run = _RUN.fullmatch(reference)
        if run is not None:
            return self._of_run(run["run_id"])
        if _CELL.fullmatch(reference):
            return self._of_cell(reference)
        raise CheckpointNotFoundError(
            f"checkpoint: {reference} is neither a file (sought: {file}) nor a grid cell such as "
            f"dwp.n5_split0_seed0 nor the id of an MLflow run.{self._nearest(reference)}"
        )

    def _of_cell(self, cell: str) -> Path:
        dataset: Any = self._catalog.get(f"target_evaluation.{cell}.checkpoint")
        if not dataset.exists():
            command = f"run --namespaces target_evaluation.{cell}{run_options(self._run_params)}"
            raise CheckpointNotFoundError(
                f"checkpoint: the grid cell {cell} is not trained: {dataset._filepath} does not exist."
                f"{self._nearest(cell)} If it is in the grid, train it:\n"
                f"  {shell_name('kedro', self._project_path)} {command}"
            )
        return Path(str(dataset._get_load_path()))

    def _nearest(self, reference: str) -> str:
        """Ask for the trained cells that are called alike, with a space before the question; or nothing."""
        template: Any = self._catalog.get("target_evaluation.METHOD.CELL.checkpoint")
        trained = [
            f"{file.parent.name}.{file.stem}"
            for file in Path(str(template._filepath)).parents[1].glob("*/*.safetensors")
        ]
        near = get_close_matches(reference, trained, n=3)
        return f" Did you mean {' or '.join(near)}?" if near else ""

    def _of_run(self, run_id: str) -> Path:
        store = MlflowStore(self._project_path, f"dwp-kedro/{self._run_params['env'] or 'base'}")
        place = store.tag(run_id, "checkpoint")
        if place is None:
            raise TrackingError(
                f"The MLflow run {run_id} made no checkpoint; give the id of a grid cell's run, not of its parent"
            )
        if not (self._project_path / place).is_file():
            raise CheckpointNotFoundError(
                f"checkpoint: the MLflow run {run_id} wrote {place}, which is not on this machine: bring it to "
                f"{self._project_path / place}"
            )
        if checksum(self._project_path / place) != store.tag(run_id, "checkpoint_sha256"):
            raise CheckpointNotFoundError(
                f"checkpoint: {place} is no longer the file that the MLflow run {run_id} wrote: its cell was "
                "trained again since. Give the file or the cell to use what lies there now, or the id of the run "
                "that wrote it"
            )
        return self._project_path / place
