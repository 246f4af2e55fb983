"""The hook that refuses a prediction of scans that are not there, before anything runs."""

from __future__ import annotations

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.pipelines.prediction.nodes import find_scans

_IMAGES = "params:images"


class NewScansHook:
    """Lists the scans once before the run does, so that a wrong place is no run that failed."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """List the scans, if this run reads any.

        Raises:
            NewScansError: ``images`` is not given, or names no scan.
            CohortError: it is a table that cannot be read.
        """
        if _IMAGES in pipeline.inputs():
            find_scans(catalog.load(_IMAGES))
