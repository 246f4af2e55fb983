"""The hook that refuses a run whose inputs nobody has made yet."""

from __future__ import annotations

import shlex
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

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
            pipeline = _without_made_outputs(pipeline, catalog)
        missing = sorted(
            name
            for name in pipeline.inputs()
            if name != "parameters" and not name.startswith("params:") and not catalog.exists(name)
        )
        if missing:
            raise MissingUpstreamError(_message(missing, run_params["env"]))


def _without_made_outputs(pipeline: Pipeline, catalog: CatalogProtocol) -> Pipeline:
    names = [
        node.name
        for node in pipeline.nodes
        if not node.outputs or not all(catalog.exists(name) for name in node.outputs)
    ]
    return pipeline.filter(node_names=names) if names else Pipeline([])


def _message(missing: list[str], environment: str | None) -> str:
    lines = [f"This run needs {len(missing)} dataset(s) that do not exist:"]
    lines += [f"  {name}" for name in missing[:_LISTED]]
    if len(missing) > _LISTED:
        lines.append(f"  … and {len(missing) - _LISTED} more")
    lines.append("Make them first:")
    option = f" --env {shlex.quote(environment)}" if environment else ""
    pipelines = sorted({name.split(".")[0] for name in missing}, key=_ORDER.index)
    lines += [f"  kedro run --pipelines {name}{option}" for name in pipelines]
    return "\n".join(lines)
