"""The hook that records a run in MLflow."""

from __future__ import annotations

import atexit
import logging
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from dwp_kedro import progress
from dwp_kedro.tracking.command import run_command
from dwp_kedro.tracking.comparison import COMPARED_BY, closing_lines, grouped_view
from dwp_kedro.tracking.git_state import git_state
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.tracking.pipeline_run import PipelineRun
from dwp_kedro.tracking.run_options import run_options
from dwp_kedro.tracking.told import describe
from dwp_kedro.tracking.tracking_error import TrackingError

_REPORT = "target_evaluation.report"
_logger = logging.getLogger(__name__)
_NOT_PARAMETERS = {"run_id", "project_path", "env"}


class MlflowHook:
    """One experiment per environment; each ``kedro run`` a parent run with children (see ``PipelineRun``)."""

    def __init__(self) -> None:
        self._store: MlflowStore | None = None
        self._run: PipelineRun | None = None
        self._token: ContextVar[Token[Any] | None] = ContextVar("dwp_kedro_curves", default=None)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Start the parent run, after ending those of dead processes.

        Raises:
            TrackingError: if MLflow cannot be reached.
        """
        self._end("KILLED")  # A notebook may start a run after one that Ctrl-C stopped.
        project_path = Path(run_params["project_path"])
        environment = run_params["env"] or "base"
        names = ", ".join(run_params["pipeline_names"] or ["__default__"])
        store = MlflowStore(project_path, f"dwp-kedro/{environment}")
        store.end_dead_runs()
        tags = {
            "pipeline": names,
            "environment": environment,
            "mlflow.source.name": run_command(run_params),
            "mlflow.source.type": "LOCAL",
            **_git_commit(project_path),
        }
        parent = store.start_run(f"{names} {run_params['run_id']}", tags)
        self._store = store
        self._run = PipelineRun(
            store,
            parent,
            pipeline=pipeline,
            catalog=catalog,
            environment=environment,
            project_path=project_path,
            only_missing_outputs=run_params["only_missing_outputs"],
        )
        atexit.register(self._end, "KILLED")
        given = {key: str(value) for key, value in run_params.items() if value and key not in _NOT_PARAMETERS}
        store.log_parameters(parent, {**given, "environment": environment})
        store.monitor_system(parent)

    @hook_impl(trylast=True)
    def before_node_run(self, node: Node) -> None:
        """Listen to the node: Kedro calls this in the thread, and so in the context, that runs it."""
        if self._run is not None:
            self._token.set(progress.add_listener(self._run.begin_node(node)))

    @hook_impl(tryfirst=True)
    def after_node_run(self, node: Node) -> None:
        """Listen no more; the node's outputs are not saved yet."""
        if self._run is not None:
            self._stop_listening()
            self._run.end_curves(node)
            if not node.outputs:
                self._run.end_node(node)

    @hook_impl(tryfirst=True)
    def on_node_error(self, error: Exception, node: Node) -> None:
        """End the node's child as FAILED, with its cause."""
        if self._run is not None:
            self._stop_listening()
            self._run.end_curves(node)
            self._run.fail_node(node, describe(error))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Log what the node made."""
        if self._run is not None:
            self._run.output_saved(node, dataset_name, data)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """End the parent as FINISHED, and print where the results can be looked at."""
        run, store = self._run, self._store
        self._end("FINISHED")
        if run is None or store is None:
            return
        n_train, run_ids, methods = run.smallest_cells()
        view = f"n{n_train}" if len(run_ids) > len(methods) else None
        if view is not None:
            for run_id in run_ids:
                store.set_tag(run_id, COMPARED_BY, run.parent)
            store.share_view(view, grouped_view(run.parent, methods))
        lines = closing_lines(
            tracking_uri=store.uri,
            experiment_id=store.experiment_id,
            project_path=Path(run_params["project_path"]),
            options=run_options(run_params),
            n_train=n_train,
            run_ids=run_ids,
            view=view,
            report=run.local_path(_REPORT) if _REPORT in pipeline.all_outputs() else None,
        )
        rich.get_console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the parent as FAILED, with its cause."""
        self._end("FAILED", describe(error))

    def _stop_listening(self) -> None:
        token = self._token.get()
        if token is not None:
            progress.remove_listener(token)
            self._token.set(None)

    def _end(self, status: str, failure: str | None = None) -> None:
        run, self._run = self._run, None
        if run is not None:
            atexit.unregister(self._end)
            self._stop_listening()
            try:
                run.end(status, failure)
            except TrackingError as error:
                if status == "FINISHED":
                    raise
                # What ended the run is to be told; the next run ends this one in MLflow.
                _logger.warning("That the run has ended is not in MLflow yet: %s", error)


def _git_commit(path: Path) -> dict[str, str]:
    state = git_state(path)
    return {} if state is None else {"mlflow.source.git.commit": state[0]}
