"""What a node's outputs were made of, as one small JSON file per node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from dwp_kedro.atomic_write import atomic_file
from dwp_kedro.lineage.checksums import Table, contents
from dwp_kedro.lineage.values import differences, fingerprint


class RecordError(Exception):
    """A record cannot be read; the message names the file and the mend."""


class Reason(NamedTuple):
    """Why a node's outputs are out of date."""

    kind: str
    """unrecorded, code, or any other word."""
    text: str


class Input(NamedTuple):
    """A dataset that a node read."""

    dataset: str
    checksum: str | None
    """None where it cannot be told: the dataset is not there any more."""


class MadeOf(BaseModel):
    """All that a node's outputs depend on."""

    model_config = ConfigDict(frozen=True)

    function: str
    bound: dict[str, Any]
    """Arguments bound to the function, by name."""
    parameters: dict[str, Any]
    """By the names of the parameters."""
    inputs: dict[str, Input]
    """Datasets that another node makes, by the argument's name."""
    files: dict[str, dict[str, str]]
    """Checksums of files that no node makes, by dataset or argument; none where they are not there any more."""
    code: dict[str, str]
    libraries: dict[str, str]

    @property
    def key(self) -> str:
        """What stands for an output that is in no file; code apart, which its readers take over."""
        return fingerprint(self.model_dump(mode="json", exclude={"code", "libraries"}))


class Record(BaseModel):
    """What a node's outputs were made of, and what they were then."""

    node: str
    made_of: MadeOf
    read: dict[str, Table]
    """The files of ``made_of.files``."""
    outputs: dict[str, Table] | None
    """Files of each output; None as long as the node runs, and if it never ended."""

    def completed_by(self, earlier: Record) -> Record:
        """Return this record, with what an earlier one says of files and inputs that are not there any more."""
        inputs = {
            argument: earlier.made_of.inputs.get(argument, given) if given.checksum is None else given
            for argument, given in self.made_of.inputs.items()
        }
        read = {label: table or earlier.read.get(label, {}) for label, table in self.read.items()}
        outputs = {
            name: table or (earlier.outputs or {}).get(name, {}) for name, table in (self.outputs or {}).items()
        }
        files = {label: contents(table) for label, table in read.items()}
        made_of = self.made_of.model_copy(update={"inputs": inputs, "files": files})
        return self.model_copy(update={"made_of": made_of, "read": read, "outputs": outputs})


class Records:
    """A folder of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, node: str) -> Record | None:
        """Return a node's record, or None.

        Raises:
            RecordError: the file is no record.
        """
        path = self._path(node)
        if not path.is_file():
            return None
        try:
            return Record.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RecordError(
                f"{path} is not a record that this version wrote. Delete it: what {node} made then counts as "
                "unrecorded."
            ) from error

    def write(self, record: Record) -> None:
        """Write a record whole or not at all."""
        with atomic_file(self._path(record.node)) as temporary:
            temporary.write_text(record.model_dump_json(), encoding="utf-8")

    def _path(self, node: str) -> Path:
        return self._folder / f"{node}.json"


def why_changed(then: MadeOf, now: MadeOf) -> Iterator[Reason]:
    """Say in what two makings of the same outputs differ; what cannot be told is no difference."""
    if then.function != now.function:
        yield Reason("code", f"made by the function {now.function}, formerly {then.function}")
    for text in differences(then.bound, now.bound, ""):
        yield Reason("parameter", f"fixed argument {text.removeprefix('.')}")
    for text in differences(then.parameters, now.parameters, ""):
        yield Reason("parameter", f"parameter {text.removeprefix('.')}")
    for argument in dict.fromkeys([*then.inputs, *now.inputs]):
        yield from _of_input(then.inputs.get(argument), now.inputs.get(argument))
    for label in dict.fromkeys([*then.files, *now.files]):
        before, after = then.files.get(label, {}), now.files.get(label, {})
        if before and after:
            yield from (Reason("file", f"{label}: {text}") for text in changed_files(before, after))
    changed = [
        name for name in dict.fromkeys([*then.code, *now.code]) if then.code.get(name) != now.code.get(name)
    ]
    if changed:
        yield Reason("code", f"code of {', '.join(changed)}")
    for text in differences(then.libraries, now.libraries, ""):
        yield Reason("code", f"library {text.removeprefix('.')}")


def why_not_as_written(record: Record, tables: dict[str, Table]) -> Iterator[Reason]:
    """Say which files of outputs are not those that the node wrote; what is not there is passed over."""
    for dataset, table in tables.items():
        written = (record.outputs or {}).get(dataset)
        if table and written and contents(table) != contents(written):
            texts = changed_files(contents(written), contents(table))
            yield from (Reason("file", f"{dataset}: {text} since it was written") for text in texts)


def changed_files(before: dict[str, str], after: dict[str, str], most: int = 3) -> list[str]:
    """Say which files differ, the first ``most`` by name; the only file of a dataset has none."""
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    words = [
        "the file" + (f" {name}" if name else "") + (
            " is new" if name not in before else " is gone" if name not in after else " has changed"
        )
        for name in names
    ]  # fmt: skip
    return words if len(words) <= most else [*words[:most], f"{len(words) - most} more files have changed"]


def _of_input(then: Input | None, now: Input | None) -> Iterator[Reason]:
    if then is None and now is not None:
        yield Reason("input", f"input {now.dataset} is new")
    elif now is None and then is not None:
        yield Reason("input", f"input {then.dataset} is read no more")
    elif then is not None and now is not None and then.dataset != now.dataset:
        yield Reason("input", f"input {then.dataset} → {now.dataset}")
    elif then is not None and now is not None and None not in (then.checksum, now.checksum) and then != now:
        yield Reason("input", f"input {now.dataset} has changed")
