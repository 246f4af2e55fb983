"""What a node's function may say of its inputs: which part of one matters, and which files it reads itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
Part = Callable[..., Any] | None

_PARTS = "depends_on_parts"
_FILES = "reads_files"


def depends_on(**parts: Part) -> Callable[[Function], Function]:
    """Say of which part of an argument a node's result depends, where it is not the whole.

    Each part is a function of the argument that returns JSON; it may take, by their names, parameters of the node
    and arguments that are bound to it. None says that the result does not depend on the argument.
    """

    def declare(function: Function) -> Function:
        setattr(function, _PARTS, parts)
        return function

    return declare


def reads_files(files: Callable[..., dict[str, Path]]) -> Callable[[Function], Function]:
    """Say which files a node reads that are in no catalog: by name, from the parameters that ``files`` takes."""

    def declare(function: Function) -> Function:
        setattr(function, _FILES, files)
        return function

    return declare


def parts_of(function: Callable[..., Any]) -> Mapping[str, Part]:
    """Return what :func:`depends_on` declared."""
    parts: Mapping[str, Part] = getattr(function, _PARTS, {})
    return parts


def files_of(function: Callable[..., Any]) -> Callable[..., dict[str, Path]] | None:
    """Return what :func:`reads_files` declared."""
    return getattr(function, _FILES, None)


def call_by_name(function: Callable[..., Any], *given: Any, **arguments: Any) -> Any:
    """Call a function with ``given``, and with those of the arguments that it names."""
    names = inspect.signature(function).parameters
    return function(*given, **{name: value for name, value in arguments.items() if name in names})
