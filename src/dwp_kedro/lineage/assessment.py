"""Which nodes' outputs are out of date, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from dwp_kedro.lineage.checksums import Table
from dwp_kedro.lineage.declare import parts_of
from dwp_kedro.lineage.present import Present, arguments
from dwp_kedro.lineage.record import MadeOf, Reason, Record, Records, why_changed, why_not_as_written

UNRECORDED = "unrecorded"
CODE = "code"

SETTLED_FIRST = "settled_first"
"""Kedro tag of nodes that cost nothing: any run that needs them runs them, before it is decided what else must."""

_TRAINED = "stage."
"""Start of the tags of nodes that need not give the same again: their outputs tell times."""


@dataclass
class Verdict:
    """What is known of one node's outputs."""

    node: Node
    made_of: MadeOf
    read: dict[str, Table]
    outputs: dict[str, Table]
    record: Record | None
    reasons: list[Reason] = field(default_factory=list)
    """Why they are out of date by themselves."""
    behind: list[str] = field(default_factory=list)
    """Inputs that are out of date."""
    is_made_anew: bool = False
    """They are not there, are made by this run, and may come out otherwise than before."""

    @property
    def is_there(self) -> bool:
        """Whether any output that is files is there."""
        return any(self.outputs.values())

    @property
    def is_missing(self) -> bool:
        """Whether any output that is files is not there."""
        return not all(self.outputs.values())

    @property
    def is_stale(self) -> bool:
        """Whether they are out of date."""
        return bool(self.reasons or self.behind)

    @property
    def changes(self) -> bool:
        """Whether nodes that read them must run."""
        return self.is_stale or self.is_made_anew

    def as_recorded(self) -> Record:
        """Return the record of what is there now, and as it was recorded of what is not there any more."""
        now = Record(node=self.node.name, made_of=self.made_of, read=self.read, outputs=self.outputs)
        return now if self.record is None else now.completed_by(self.record)


class Assessment:
    """Goes through nodes in the order of their dependence."""

    def __init__(
        self,
        present: Present,
        records: Records,
        *,
        running: Collection[str] = (),
        accepted: str = "",
        settle: Callable[[Node], None] | None = None,
    ) -> None:
        """Say what is known beforehand.

        Args:
            present: what is there.
            records: what was there when it was made.
            running: names of the nodes that run if they must.
            accepted: a kind of reason that does not count.
            settle: runs a node and records it.
        """
        self._present = present
        self._records = records
        self._running = running
        self._accepted = accepted
        self._settle = settle
        self.verdicts: dict[str, Verdict] = {}
        self.taken: list[Verdict] = []
        """Those whose only reasons were accepted."""
        self.touched: list[Verdict] = []
        """Those whose files have other times, and the same content, as recorded."""

    def assess(self, nodes: Iterable[Node]) -> None:
        """Come to a verdict on each of the nodes."""
        for node in nodes:
            verdict = self._judge(node)
            if self._settle is not None and self._may_settle(verdict):
                self._settle(node)
                self._present.look_again(node)
                verdict = self._judge(node)
            self.verdicts[node.name] = verdict

    def _judge(self, node: Node) -> Verdict:
        record = self._records.read(node.name)
        if record is not None:
            self._present.remember(node, record)
        read, outputs = self._present.read(node), self._present.outputs(node)
        verdict = Verdict(node, self._present.made_of(node, read), read, outputs, record)
        verdict.behind = [name for name in self._inputs(node) if self._changes(name)]
        if not outputs:
            return verdict  # Others read them from memory, and compare what they were made of.
        runs_anyway = verdict.is_missing and node.name in self._running
        verdict.reasons = list(_reasons(verdict, runs_anyway))
        kinds = {reason.kind for reason in verdict.reasons}
        if kinds == {self._accepted} and not verdict.behind and not runs_anyway:
            verdict.reasons = []
            self.taken.append(verdict)
        elif record is not None and verdict.is_there and not verdict.is_stale and verdict.as_recorded() != record:
            self.touched.append(verdict)
        verdict.is_made_anew = runs_anyway and not _comes_out_the_same(verdict)
        return verdict

    def _inputs(self, node: Node) -> list[str]:
        """Return the inputs that other nodes make, without those on which the result does not depend."""
        ignored = {argument for argument, part in parts_of(node.func).items() if part is None}
        made = self._present.makers
        return [name for argument, name in arguments(node).items() if name in made and argument not in ignored]

    def _changes(self, dataset: str) -> bool:
        verdict = self.verdicts.get(self._present.makers[dataset].name)
        return verdict is not None and verdict.changes

    def _may_settle(self, verdict: Verdict) -> bool:
        node = verdict.node
        return (
            SETTLED_FIRST in node.tags
            and not verdict.behind
            and (verdict.is_missing or bool(verdict.reasons))
            and UNRECORDED not in {reason.kind for reason in verdict.reasons}
            and all(checksum is not None for _, checksum in verdict.made_of.inputs.values())
        )


def with_all_upstream(nodes: Iterable[Node], whole: Pipeline) -> list[Node]:
    """Return nodes of the whole pipeline and all that they depend on, in the order of their dependence."""
    makers = {name: node for node in whole.nodes for name in node.outputs}
    found = dict[str, Node]()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = node
            waiting += [makers[name] for name in node.inputs if name in makers]
    return [node for node in whole.nodes if node.name in found]


def _reasons(verdict: Verdict, runs_anyway: bool) -> Iterable[Reason]:
    record = verdict.record
    if not verdict.is_there and runs_anyway:
        return
    if record is None:
        if verdict.is_there and not runs_anyway:
            yield Reason(UNRECORDED, "nothing is recorded of what they were made of")
    elif record.outputs is None:
        yield Reason("cut short", "their making was cut short")
    else:
        yield from why_changed(record.made_of, verdict.made_of)
        yield from why_not_as_written(record, verdict.outputs)


def _comes_out_the_same(verdict: Verdict) -> bool:
    """Whether what is not there should be the same as before when it is made again."""
    record = verdict.record
    if record is None or record.outputs is None or any(tag.startswith(_TRAINED) for tag in verdict.node.tags):
        return False
    return not any(why_changed(record.made_of, verdict.made_of))
