"""The hook that shows a run on the terminal and lets Ctrl-C stop it."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Generator, Mapping
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from dwp_kedro import progress
from dwp_kedro.tracking.command import resume_command
from dwp_kedro.tracking.interruption import Interruption
from dwp_kedro.tracking.node_state import RunningNodes, nodes_to_run
from dwp_kedro.tracking.stage_progress import StageProgress
from dwp_kedro.tracking.terminal import Display, make_display

_START = "the start of the run"


class TerminalHook:
    """Attaches the terminal to every node, and says how to resume a run that failed or was stopped."""

    def __init__(self) -> None:
        self._display: Display | None = None
        self._interruption = Interruption()
        self._nodes = RunningNodes()
        self._stages = StageProgress([])
        self._run_params: dict[str, Any] = {}
        self._token: ContextVar[Token[Any] | None] = ContextVar("dwp_kedro_terminal", default=None)

    @hook_impl(wrapper=True, tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> Generator[None, Any, Any]:
        """Begin to show, before the other hooks do slow things; stop if one of them refuses the run."""
        self._end()  # A notebook may start a run after one that Ctrl-C stopped.
        self._run_params = run_params
        self._display = make_display(rich.get_console())
        self._display.start()
        self._display.begin_work(_START)
        self._interruption.install()
        atexit.register(self._exit)
        try:
            result = yield
            only_missing = run_params["only_missing_outputs"]
            self._stages = StageProgress(nodes_to_run(pipeline, catalog, only_missing_outputs=only_missing))
        except BaseException:
            self._end()
            raise
        self._display.end_work(_START)
        return result

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, node: Node) -> None:
        """Show the node from its first input on."""
        self._begin_node(node)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node) -> None:
        """Listen to the node's thread, which keeps listening until it ends."""
        self._begin_node(node)
        self._interruption.check()
        if self._token.get() is None:
            self._token.set(progress.add_listener(self))

    @hook_impl(trylast=True)
    def after_node_run(self, node: Node) -> None:
        """End a node that has nothing to save."""
        if not node.outputs:
            self._end_node(node)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """End the node with its last output."""
        if self._nodes.saved(node, dataset_name):
            self._end_node(node)

    @hook_impl(trylast=True)
    def on_node_error(self, node: Node) -> None:
        """End a node that failed."""
        self._end_node(node, failed=True)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Leave the terminal to the closing lines of other hooks."""
        self._end()

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Say how to go on."""
        self._end("The run failed.")

    def on_progress(self, task: str, completed: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show progress, or stop this thread if the run was asked to stop."""
        self._interruption.check()
        if self._display is not None:
            self._display.on_progress(task, completed, total, metrics)

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Stop this thread if the run was asked to stop."""
        self._interruption.check()

    def _begin_node(self, node: Node) -> None:
        if self._display is not None:
            self._nodes.begin(node)
            self._display.begin_work(node.name)
            stage = self._stages.begin(node)
            if stage is not None and not stage.done:
                self._display.show_stage(stage)

    def _end_node(self, node: Node, *, failed: bool = False) -> None:
        if self._display is not None:
            self._nodes.end(node)
            self._display.end_work(node.name)
            stage = self._stages.end(node, failed=failed)
            if stage is not None:
                self._display.show_stage(stage)

    def _exit(self) -> None:
        by = {signal.SIGINT: " by Ctrl-C", signal.SIGTERM: " by SIGTERM", None: ""}
        self._end(f"The run was stopped{by[self._interruption.signal]}.")

    def _end(self, reason: str = "") -> None:
        display, self._display = self._display, None
        if display is None:
            return
        display.stop()
        self._interruption.restore()
        atexit.unregister(self._exit)
        self._nodes = RunningNodes()
        token = self._token.get()
        if token is not None:
            progress.remove_listener(token)
            self._token.set(None)
        if reason:
            command = resume_command(Path(self._run_params["project_path"]), self._run_params)
            display.print(f"{reason} What is finished is kept; resume with:\n  {command}")
