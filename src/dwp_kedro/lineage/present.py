"""What the nodes of a pipeline would be made of now, as catalog, files and sources say."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, get_type_hints

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import TypeAdapter

from dwp_kedro.lineage.checksums import Checksums, Table, combined, contents
from dwp_kedro.lineage.code import Sources
from dwp_kedro.lineage.declare import call_by_name, files_of, parts_of
from dwp_kedro.lineage.record import Input, MadeOf, Record
from dwp_kedro.lineage.values import fingerprint, plain

_PARAMETER = "params:"


class Present:
    """Looks at what is there; safe to call from any thread.

    It looks once. What others change later, while a node may already have read it, differs from what the node's
    record says, and so is noticed by the next run.
    """

    def __init__(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        self.makers: dict[str, Node] = {name: node for node in pipeline.nodes for name in node.outputs}
        self._catalog = catalog
        self._checksums = Checksums()
        self._sources = Sources()
        self._parameters: dict[tuple[str, Any], Any] = {}
        self._loaded: dict[tuple[str, str], Any] = {}
        self._listed: dict[str, dict[str, Path] | None] = {}
        self._outside: dict[str, dict[str, dict[str, Path]]] = {}
        self._tables: dict[str, Table] = {}
        self._lock = threading.RLock()

    def remember(self, node: Node, record: Record) -> None:
        """Take over what was read of files when the record was written."""
        with self._lock:
            for dataset, table in (record.outputs or {}).items():
                self._checksums.remember(self._files(dataset) or {}, table)
            for label, files in self._files_from_outside(node).items():
                self._checksums.remember(files, record.read.get(label, {}))

    def read_code(self, node: Node) -> None:
        """Read a node's code, before anybody edits it."""
        with self._lock:
            self._sources.code_of(node.func)

    def look_again(self, node: Node) -> None:
        """Forget what was there of a node that has run since."""
        with self._lock:
            self._outside.pop(node.name, None)
            for name in node.outputs:
                self._listed.pop(name, None)
                self._tables.pop(name, None)

    def outputs(self, node: Node) -> dict[str, Table]:
        """Return the files of those outputs that are files; an empty table where they are not there."""
        with self._lock:
            found = {name: self._table(name) for name in node.outputs}
            return {name: table for name, table in found.items() if table is not None}

    def read(self, node: Node) -> dict[str, Table]:
        """Return the files that a node reads and no node makes, by dataset or argument."""
        with self._lock:
            return {
                label: self._checksums.look_at(files) for label, files in self._files_from_outside(node).items()
            }

    def made_of(self, node: Node, read: Mapping[str, Table]) -> MadeOf:
        """Return what the node would be made of, with ``read`` from outside."""
        with self._lock:
            bound = dict(node.func.keywords) if isinstance(node.func, partial) else {}
            parts, parameters, inputs = parts_of(node.func), dict[str, Any](), dict[str, Input]()
            code = self._sources.code_of(node.func)
            modules, libraries = dict(code.modules), dict(code.libraries)
            given = {**bound, **self._parameters_of(node)}
            for argument, name in arguments(node).items():
                part = parts.get(argument, _whole)
                if part is None:
                    continue
                others = {label: value for label, value in given.items() if label != argument}
                if name.startswith(_PARAMETER):
                    value = call_by_name(part, given[argument], **others)
                    parameters[name.removeprefix(_PARAMETER)] = plain(value)
                elif name in self.makers:
                    checksum = self._checksum(name)
                    if part is not _whole and checksum is not None:
                        checksum = fingerprint(plain(call_by_name(part, self._load(name, checksum), **others)))
                    inputs[argument] = Input(name, checksum)
                    if self._files(name) is None:
                        maker = self.made_of(self.makers[name], self.read(self.makers[name]))
                        modules, libraries = {**maker.code, **modules}, {**maker.libraries, **libraries}
            unwrapped = inspect.unwrap(node.func)
            return MadeOf(
                function=f"{unwrapped.__module__}.{unwrapped.__qualname__}",
                bound=plain(bound),
                parameters=parameters,
                inputs=inputs,
                files={label: contents(table) for label, table in read.items()},
                code=modules,
                libraries=libraries,
            )

    def _checksum(self, dataset: str) -> str | None:
        table = self._table(dataset)
        if table is not None:
            return combined(table) if table else None
        maker = self.makers[dataset]
        return self.made_of(maker, self.read(maker)).key

    def _parameters_of(self, node: Node) -> dict[str, Any]:
        return {
            argument: self._parameter(node, argument, name)
            for argument, name in arguments(node).items()
            if name.startswith(_PARAMETER)
        }

    def _parameter(self, node: Node, argument: str, name: str) -> Any:
        """Return a parameter as the node gets it: Kedro validates only those of the pipelines that run."""
        kind = _type_hints(inspect.unwrap(node.func)).get(argument, Any)
        if (name, kind) not in self._parameters:
            dataset: Any = self._catalog.get(name)
            self._parameters[name, kind] = TypeAdapter(kind).validate_python(dataset.load())
        return self._parameters[name, kind]

    def _load(self, name: str, checksum: str) -> Any:
        if (name, checksum) not in self._loaded:
            dataset: Any = self._catalog.get(name)  # Not catalog.load, which would tell of it.
            self._loaded[name, checksum] = dataset.load()
        return self._loaded[name, checksum]

    def _files_from_outside(self, node: Node) -> dict[str, dict[str, Path]]:
        if node.name not in self._outside:
            self._outside[node.name] = self._list_outside(node)
        return self._outside[node.name]

    def _list_outside(self, node: Node) -> dict[str, dict[str, Path]]:
        named = arguments(node)
        found = {
            name: files
            for name in named.values()
            if not name.startswith(_PARAMETER) and name not in self.makers
            if (files := self._files(name)) is not None
        }
        declared = files_of(node.func)
        if declared is not None:
            found["files"] = call_by_name(declared, **self._parameters_of(node))
        return found

    def _table(self, name: str) -> Table | None:
        if name not in self._tables:
            files = self._files(name)
            if files is None:
                return None
            self._tables[name] = self._checksums.look_at(files)
        return self._tables[name]

    def _files(self, name: str) -> dict[str, Path] | None:
        """Return a dataset's files by name, the only one under ""; None for one that is no local files."""
        if name not in self._listed:
            self._listed[name] = _list_files(self._catalog.get(name)) if name in self._catalog else None
        return self._listed[name]


def path_of(dataset: Any) -> Path | None:
    """Return a dataset's file or folder on this machine; None if it has none, or has versions."""
    # A dataset has the one, a dataset of partitions or of predictions the other.
    place = getattr(dataset, "_filepath", getattr(dataset, "_path", None))
    has_versions = getattr(dataset, "_version", None) is not None
    if place is None or has_versions or getattr(dataset, "_protocol", "file") != "file":
        return None
    return Path(str(place))


def _list_files(dataset: Any) -> dict[str, Path] | None:
    path = path_of(dataset)
    if path is None:
        return None
    if not path.is_dir():
        return {"": path}
    suffix = getattr(dataset, "_filename_suffix", "")
    found = {}
    for parent, _, names in os.walk(path):
        within = Path(parent).relative_to(path).as_posix()
        for name in names:
            if name.endswith(suffix) and not name.startswith("."):
                found[name if within == "." else f"{within}/{name}"] = Path(parent, name)
    return found


@cache
def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def _whole(value: Any) -> Any:
    return value


def arguments(node: Node) -> dict[str, str]:
    """Return the names of a node's inputs by the arguments that they are given as."""
    given = node._inputs
    if isinstance(given, dict):
        return dict(given)
    names = [given] if isinstance(given, str) else list(given or [])
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(inspect.unwrap(node.func)).parameters.values()
    labels = [parameter.name for parameter in signature if parameter.kind in kinds]
    return {labels[i] if i < len(labels) else str(i): name for i, name in enumerate(names)}
