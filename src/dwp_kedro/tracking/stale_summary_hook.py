"""The hook that lets a resumed run rebuild tables and figures whose inputs have changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from dwp_kedro.tracking.catalog import local_path

SUMMARY_TAG = "summary"
"""Kedro tag of nodes that gather what others made: cheap, and wrong once one of those is made anew."""


class StaleSummaryHook:
    """Deletes, before ``--only-missing-outputs``, summaries older than what they summarise.

    Kedro itself only asks whether an output exists, and would keep a table without the cells that are new.
    Looked at are local files; datasets with versions are left alone.
    """

    @hook_impl(trylast=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Delete the outputs of stale summary nodes; last of all hooks: a refused run deletes nothing."""
        if not run_params["only_missing_outputs"]:
            return
        free_inputs, remade = pipeline.inputs(), set[str]()
        for node in pipeline.nodes:  # in the order of their dependence
            is_stale = SUMMARY_TAG in node.tags and _is_stale(node, free_inputs, remade, catalog)
            if is_stale:
                _delete_outputs(node, catalog)
            if is_stale or any(_is_missing(name, catalog) for name in node.outputs):
                remade.update(node.outputs)


def _is_stale(node: Node, free_inputs: set[str], remade: set[str], catalog: CatalogProtocol) -> bool:
    inputs = [name for name in node.inputs if not name.startswith("params:")]
    if any(_is_missing(name, catalog) for name in free_inputs.intersection(inputs)):
        return False  # What is deleted here could not be rebuilt.
    made, read = _times(node.outputs, catalog), _times(inputs, catalog)
    return not remade.isdisjoint(inputs) or bool(made and read and max(read) > min(made))


def _is_missing(name: str, catalog: CatalogProtocol) -> bool:
    """Tell whether a dataset that could outlive a run is not there."""
    return not isinstance(catalog.get(name), MemoryDataset) and not catalog.exists(name)


def _delete_outputs(node: Node, catalog: CatalogProtocol) -> None:
    for name in node.outputs:
        path = local_path(catalog, name)
        if path is not None:
            path.unlink(missing_ok=True)
            dataset: Any = catalog.get(name)
            dataset.release()


def _times(names: Iterable[str], catalog: CatalogProtocol) -> list[int]:
    """Return when the files of datasets were last written, ns; those without a file are passed over."""
    paths = [path for name in names if (path := local_path(catalog, name)) is not None]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return [file.stat().st_mtime_ns for file in files]
