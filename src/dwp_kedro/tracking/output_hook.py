"""The hook that refuses a run which could not save what it makes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.tracking.catalog import local_path
from dwp_kedro.tracking.node_state import nodes_to_run


class ReadOnlyOutputError(Exception):
    """Folders of the run's outputs must not be written to; the message lists them."""


class OutputHook:
    """Checks, before anything runs, that the folders of all outputs can be written to."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Check the folder of every output of the nodes that will run, or the one that it will be made in.

        Raises:
            ReadOnlyOutputError: if some must not be written to.
        """
        only_missing = run_params["only_missing_outputs"]
        nodes = nodes_to_run(pipeline, catalog, only_missing_outputs=only_missing)
        places = (local_path(catalog, name) for node in nodes for name in node.outputs)
        folders = {_folder_to_write_to(place) for place in places if place is not None}
        forbidden = sorted(str(folder) for folder in folders if not os.access(folder, os.W_OK | os.X_OK))
        if forbidden:
            raise ReadOnlyOutputError(
                "\n  ".join(["This run could not save what it makes. Let this user write to", *forbidden])
            )


def _folder_to_write_to(place: Path) -> Path:
    return next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
