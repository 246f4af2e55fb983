"""The hook that records what results were made of, and lets no run mix them with others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner

from dwp_kedro.lineage.assessment import CODE, UNRECORDED, Assessment, Verdict, with_all_upstream
from dwp_kedro.lineage.checksums import contents
from dwp_kedro.lineage.present import Present
from dwp_kedro.lineage.record import Record, Records
from dwp_kedro.tracking.node_state import RunningNodes
from dwp_kedro.tracking.stale_words import accepting_command, command, listed, why

_SETTINGS = "params:lineage"


class OutOfDateError(Exception):
    """Results are out of date, or may be; the message names them, says why, and has the commands that mend it."""


class LineageHook:
    """Names what is out of date, has ``--only-missing-outputs`` make it anew, or refuses the run.

    Nothing is deleted: outputs that are out of date count as missing until they are replaced. Recorded are the
    nodes of the default pipeline.
    """

    def __init__(self, whole: Callable[[], Pipeline]) -> None:
        """Take what gives all the nodes of the environment that runs."""
        self._whole = whole
        self._run: _Run | None = None

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Assess what the run reads and, with ``--only-missing-outputs``, what it would keep.

        Raises:
            OutOfDateError: what the run reads and does not make is out of date, or it would keep what nothing is
                recorded of.
            RecordError: a record cannot be read.
        """
        self._run = None
        run = _Run(self._whole(), pipeline, catalog, run_params)
        run.assess()
        self._run = run

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Record what the node is being made of."""
        if self._run is not None:
            self._run.begin(node)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Record the node's outputs with the last of them.

        Raises:
            OutOfDateError: what was to come out as before did not, and others were made of that.
        """
        if self._run is not None:
            self._run.saved(node, dataset_name)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Say what else has become out of date."""
        if self._run is not None:
            self._run.tell_what_follows()


class _Run:
    def __init__(
        self, whole: Pipeline, pipeline: Pipeline, catalog: CatalogProtocol, run_params: dict[str, Any]
    ) -> None:
        given: Any = catalog.get(_SETTINGS)
        settings = given.load()
        self._accepted: str = settings["accept"]
        self._records = Records(Path(settings["folder"]))
        self._whole = whole
        self._recorded = {node.name for node in whole.nodes}
        self._pipeline = pipeline
        self._catalog = catalog
        self._run_params = run_params
        self._only_missing: bool = run_params["only_missing_outputs"]
        self._present = Present(whole, catalog)
        self._expected: dict[str, Record] = {}
        """Records of nodes that are to give the same again."""
        self._kept: set[str] = set()
        """Names of nodes that this run leaves out, because what they made is up to date."""
        self._nodes = RunningNodes()
        self._begun: dict[str, Record] = {}
        self._lock = threading.Lock()

    def assess(self) -> None:
        makers = self._present.makers
        read = [name for name in sorted(self._pipeline.inputs()) if name in makers]
        asked = [node for node in self._pipeline.nodes if node.name in self._recorded and self._only_missing]
        assessment = Assessment(
            self._present,
            self._records,
            running={node.name for node in asked},
            accepted=self._accepted,
            settle=self._settle,
        )
        assessment.assess(with_all_upstream([*asked, *(makers[name] for name in read)], self._whole))
        verdicts = assessment.verdicts
        self._refuse(verdicts, [name for name in read if verdicts[makers[name].name].is_stale])
        for verdict in [*assessment.touched, *assessment.taken]:
            self._records.write(verdict.as_recorded())
        if assessment.taken:
            names = [name for verdict in assessment.taken for name in verdict.outputs]
            _print([f"Taken as they are, and recorded (accept={self._accepted}):", *listed(names)])
        self._rebuild([verdicts[node.name] for node in asked])
        for node in self._pipeline.nodes:
            if node.name in self._recorded:
                self._present.read_code(node)

    def begin(self, node: Node) -> None:
        """Record what a node is being made of, and that it is not done."""
        if node.name not in self._recorded:
            return
        self._nodes.begin(node)
        read = self._present.read(node)
        made_of = self._present.made_of(node, read)
        record = Record(node=node.name, made_of=made_of, read=read, outputs=None)
        self._records.write(record)
        with self._lock:
            self._begun[node.name] = record

    def saved(self, node: Node, dataset: str) -> None:
        """Record a node's outputs, if this was the last."""
        if node.name not in self._recorded or not self._nodes.saved(node, dataset):
            return
        self._nodes.end(node)
        with self._lock:
            begun = self._begun.pop(node.name)
        # The node may have written files that it read, as it does with made-up scans.
        read = {label: {**table, **begun.read[label]} for label, table in self._present.read(node).items()}
        files = {label: contents(table) for label, table in read.items()}
        made_of = begun.made_of.model_copy(update={"files": files})
        self._present.look_again(node)
        record = Record(node=node.name, made_of=made_of, read=read, outputs=self._present.outputs(node))
        self._records.write(record)
        for name in node.outputs:
            vars(self._catalog.get(name)).pop("_exists", None)
        expected = self._expected.get(node.name)
        if expected is not None:
            self._require_same(expected, record)

    def tell_what_follows(self) -> None:
        """Print what has become out of date by this run, and is not in it."""
        names = {node.name for node in self._pipeline.nodes}
        if names >= self._recorded or names.isdisjoint(self._recorded):
            return
        assessment = Assessment(self._present, self._records)
        assessment.assess(self._whole.nodes)
        stale = [v for v in assessment.verdicts.values() if v.is_stale and v.is_there and v.node.name not in names]
        if stale:
            lines = ["Out of date now, and not in this run:", *listed(_outputs(stale)), "Make them anew:"]
            _print([*lines, f"  {command(self._run_params)}"])

    def _refuse(self, verdicts: dict[str, Verdict], read: list[str]) -> None:
        unrecorded = [
            verdict for verdict in verdicts.values() if UNRECORDED in {reason.kind for reason in verdict.reasons}
        ]
        if unrecorded:
            lines = [
                "Nothing is recorded of what these were made of: an earlier version made them, or they were "
                "copied without their records:",
                *listed(_outputs(unrecorded)),
                "If you know that parameters, data and code were the present ones, take them as they are:",
                f"  {accepting_command(self._run_params, UNRECORDED)}",
                "If not, delete them, or make them anew, all together:",
                f"  {command(self._run_params, resumes=False)}",
            ]
            raise OutOfDateError("\n".join(lines))
        if not read:
            return
        upstream = {name for d in read for name in self._upstream(d)}
        causes = [verdict for name, verdict in verdicts.items() if name in upstream]
        lines = ["This run would read what is out of date:", *listed(read), "because", *why(causes)]
        lines += ["Make it anew first:", f"  {command(self._run_params, outputs=read)}"]
        if {reason.kind for verdict in causes for reason in verdict.reasons} == {CODE}:
            lines += [
                "or, if you know that the change of code changes no result, take it as it is:",
                f"  {accepting_command(self._run_params, CODE)}",
            ]
        raise OutOfDateError("\n".join(lines))

    def _upstream(self, dataset: str) -> set[str]:
        return {node.name for node in with_all_upstream([self._present.makers[dataset]], self._whole)}

    def _rebuild(self, verdicts: list[Verdict]) -> None:
        """Let outputs that are out of date count as missing, and say which they are."""
        stale = [verdict for verdict in verdicts if verdict.changes]
        for verdict in stale:
            for name in verdict.outputs:
                dataset: Any = self._catalog.get(name)
                dataset._exists = _not_there
        for verdict in verdicts:
            if verdict.is_missing and not verdict.changes and verdict.record is not None:
                self._expected[verdict.node.name] = verdict.record
            elif not verdict.changes:
                self._kept.add(verdict.node.name)
        replaced = [verdict for verdict in stale if verdict.is_there]
        causes = [verdict for verdict in replaced if verdict.reasons]
        if causes:
            lines = ["Out of date, made anew by this run:", *why(causes)]
            others = len(_outputs(replaced)) - len(_outputs(causes))
            _print([*lines, f"  and {others} more that depend on these"] if others else lines)

    def _settle(self, node: Node) -> None:
        self.begin(node)
        SequentialRunner().run(Pipeline([node]), self._catalog)
        for name in node.outputs:
            self.saved(node, name)

    def _require_same(self, before: Record, now: Record) -> None:
        tables = now.outputs or {}
        changed = [
            name
            for name, table in (before.outputs or {}).items()
            if contents(table) != contents(tables.get(name, {})) and self._is_read_by_kept(name)
        ]
        if changed:
            lines = [
                "These were made again from the same, and came out otherwise than before:",
                *listed(changed),
                "What depends on them is out of date. Make it anew:",
            ]
            raise OutOfDateError("\n".join([*lines, f"  {command(self._run_params)}"]))

    def _is_read_by_kept(self, dataset: str) -> bool:
        return any(dataset in node.inputs for node in self._whole.nodes if node.name in self._kept)


def _outputs(verdicts: list[Verdict]) -> list[str]:
    return [name for verdict in verdicts for name, table in verdict.outputs.items() if table]


def _not_there() -> bool:
    return False


def _print(lines: list[str]) -> None:
    rich.get_console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
