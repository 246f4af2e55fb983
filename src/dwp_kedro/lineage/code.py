"""Fingerprints of the source code that a node's function runs through."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

COMPUTING = ("torch", "monai", "nibabel", "numpy", "scipy")
"""Libraries with whose version numbers may change."""

Definition = tuple[str, str]
"""A module, and a name that it defines; an empty name is all of it."""


@dataclass(frozen=True)
class Code:
    """What a function runs through."""

    modules: dict[str, str]
    """By module, a fingerprint of those of its definitions that are used."""
    libraries: dict[str, str]
    """Versions, without the part that names a build."""


@dataclass
class _Module:
    """The outermost level of a module."""

    path: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    imports: dict[str, Definition] = field(default_factory=dict)
    """What imported names are, within functions too."""
    files: frozenset[str] = frozenset()
    """Names of the files in its folder."""


@dataclass(frozen=True)
class _Use:
    """One definition."""

    fingerprint: str
    uses: frozenset[Definition]
    libraries: frozenset[str]


class Sources:
    """Reads sources, each once: what is edited after a run began is not what it runs.

    A function's code is its own definition, and whatever definitions of its own package that one names, in
    annotations too, and these, and so on: methods of objects are found by the types that are written down.
    Comments, docstrings and descriptions of parameters do not count; files beside a module that its code names do.
    """

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}
        self._definitions: dict[Definition, _Use] = {}
        self._codes: dict[Definition, Code] = {}

    def code_of(self, function: Callable[..., Any]) -> Code:
        """Return the code of a function of a module, or of one bound to some of its arguments."""
        function = inspect.unwrap(function)
        start = (function.__module__, function.__qualname__.split(".")[0])
        if start not in self._codes:
            self._codes[start] = self._follow(start)
        return self._codes[start]

    def _follow(self, start: Definition) -> Code:
        top = start[0].split(".")[0]
        place = getattr(sys.modules[top], "__file__", None)
        if place is None:
            return Code({}, {})  # a notebook's cell
        root = Path(place).parents[1] if Path(place).name == "__init__.py" else Path(place).parent
        found: dict[Definition, _Use] = {}
        waiting = {start}
        while waiting:
            definition = waiting.pop()
            if definition not in self._definitions:
                self._definitions[definition] = self._read(definition, root)
            found[definition] = self._definitions[definition]
            waiting |= found[definition].uses - found.keys()
        modules: dict[str, Any] = defaultdict(hashlib.sha256)
        for module, name in sorted(found):
            modules[module].update(f"{name}:{found[module, name].fingerprint};".encode())
        libraries = sorted(frozenset[str]().union(*(use.libraries for use in found.values())))
        return Code(
            {module: digest.hexdigest()[:16] for module, digest in modules.items()},
            {library: version(library).partition("+")[0] for library in libraries},
        )

    def _read(self, definition: Definition, root: Path) -> _Use:
        """Read one definition: what it says, and what it names."""
        top = definition[0].split(".")[0]
        module = self._module(definition[0], root)
        every = [statement for found in module.definitions.values() for statement in found]
        statements = module.definitions.get(definition[1]) or every
        digest = hashlib.sha256("".join(ast.dump(statement) for statement in statements).encode())
        names, texts = set[tuple[str, str]](), set[str]()
        for node in (node for statement in statements for node in ast.walk(statement)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names.add((node.value.id, node.attr))
            elif isinstance(node, ast.Name):
                names.add((node.id, ""))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
        for file in sorted(module.files & texts):
            digest.update((module.path.parent / file).read_bytes())
        uses, libraries, imports = set[Definition](), set[str](), module.imports
        with_attributes = {name for name, attribute in names if attribute}
        for name, attribute in names:
            if name in module.definitions:
                uses.add((definition[0], name))
            elif name in imports and imports[name][0].split(".")[0] != top:
                libraries.add(imports[name][0].split(".")[0])
            elif name in imports and (attribute or not self._is_module(imports[name], root)):
                uses.add(self._origin(imports[name], attribute, root))
            elif name in imports and name not in with_attributes:
                uses.add(self._origin(imports[name], "", root))
        own = frozenset(use for use in uses if use[0] != top and use != definition)
        return _Use(digest.hexdigest(), own, frozenset(libraries.intersection(COMPUTING)))

    def _origin(self, imported: Definition, attribute: str, root: Path) -> Definition:
        """Return where an imported name is defined: a package's ``__init__`` may have it from another module."""
        module, name = imported
        if self._is_module(imported, root):
            module, name = (f"{module}.{name}" if name else module), attribute
        passed_on = self._module(module, root).imports.get(name)
        return (module, name) if passed_on is None else self._origin(passed_on, "", root)

    def _is_module(self, imported: Definition, root: Path) -> bool:
        return not imported[1] or _source(".".join(imported), root) is not None

    def _module(self, name: str, root: Path) -> _Module:
        if name not in self._modules:
            self._modules[name] = _parse(name, root)
        return self._modules[name]


def _parse(name: str, root: Path) -> _Module:
    path = _source(name, root)
    assert path is not None, f"{name} has no source"
    files = frozenset(file.name for file in path.parent.iterdir() if file.is_file())
    module = _Module(path, files=files)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        _strip_texts(node)
        module.imports.update(_imported(node))
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.definitions[statement.name].append(statement)
        elif not isinstance(statement, ast.Import | ast.ImportFrom):
            stored = {
                n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            for defined in stored:
                module.definitions[defined].append(statement)
    return module


def _source(module: str, root: Path) -> Path | None:
    stem = root.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _imported(node: ast.AST) -> dict[str, Definition]:
    """Return what the names are that an import statement binds; nothing for any other node."""
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name.split(".")[0]: (alias.name, "") for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return {}


def _strip_texts(node: ast.AST) -> None:
    """Take out docstrings, of modules, definitions and attributes, and descriptions of fields."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        body[:] = [statement for statement in body if not _is_text(statement)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field":
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
