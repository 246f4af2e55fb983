"""The hook that refuses a run whose inputs nobody has made yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.tracking.catalog import layer_of
from dwp_kedro.tracking.command import shell_name
from dwp_kedro.tracking.node_state import nodes_to_run
from dwp_kedro.tracking.run_options import run_options

_LISTED = 8
_ORDER = ("data_processing", "source_training", "prior_learning", "target_evaluation")


class MissingUpstreamError(Exception):
    """Inputs of the run do not exist; the message lists them and the commands that make them."""


class UpstreamHook:
    """Checks, before anything runs, that everything the run reads and does not make exists."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Check all free inputs that are not parameters.

        Raises:
            MissingUpstreamError: if some do not exist.
        """
        if run_params["only_missing_outputs"]:
            names = [node.name for node in nodes_to_run(pipeline, catalog, only_missing_outputs=True)]
            pipeline = pipeline.filter(node_names=names) if names else Pipeline([])
        missing = sorted(
            name
            for name in pipeline.inputs()
            if name != "parameters" and not name.startswith("params:") and not catalog.exists(name)
        )
        if missing:
            raise MissingUpstreamError(_message(missing, run_params, catalog))


def _message(missing: list[str], run_params: dict[str, Any], catalog: CatalogProtocol) -> str:
    lines = [f"This run needs {len(missing)} dataset(s) that do not exist:"]
    made = [name for name in missing if name.split(".")[0] in _ORDER and layer_of(catalog, name) != "raw"]
    if made:
        lines += [*_listed(made), "Make them first:"]
        program = shell_name("kedro", Path(run_params["project_path"]))
        options = run_options(run_params)
        pipelines = sorted({name.split(".")[0] for name in made}, key=_ORDER.index)
        lines += [f"  {program} run --pipelines {name}{options}" for name in pipelines]
    others = [name for name in missing if name not in made]
    if others:
        lines += ["No pipeline makes these: check their names, or put the files where the catalog says:"]
        lines += _listed([_with_place(name, catalog) for name in others])
    return "\n".join(lines)


def _with_place(name: str, catalog: CatalogProtocol) -> str:
    path = getattr(catalog.get(name), "_filepath", None)
    return name if path is None else f"{name}: {path}"


def _listed(names: list[str]) -> list[str]:
    more = [f"  … and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return [f"  {name}" for name in names[:_LISTED]] + more
