"""Checksums of files, which are read again only where size or times say that they may have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class FileMark(NamedTuple):
    """A file's content, and what says without reading it that it is still the same."""

    sha256: str
    size: int
    """Bytes."""
    modified: int
    """When its content was written last, ns."""
    changed: int
    """When the file system changed it last, ns; a program that sets ``modified`` back cannot set this."""


Table = dict[str, FileMark]
"""Files of one dataset by name."""


def checksum(path: Path) -> str:
    """SHA-256 of a file, hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contents(table: Table) -> dict[str, str]:
    """Return the checksums of files by name."""
    return {name: mark.sha256 for name, mark in table.items()}


def combined(table: Table) -> str:
    """Return one checksum of names and contents of files; it does not depend on their order."""
    lines = [f"{mark.sha256} {name}\n" for name, mark in sorted(table.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Checksums:
    """Looks at files, and remembers what was read of them."""

    def __init__(self) -> None:
        self._known: dict[Path, FileMark] = {}

    def remember(self, files: Mapping[str, Path], table: Table) -> None:
        """Take over what an earlier process read."""
        self._known.update({path: table[name] for name, path in files.items() if name in table})

    def look_at(self, files: Mapping[str, Path]) -> Table:
        """Return the marks of those files that are there."""
        return {name: mark for name, path in files.items() if (mark := self._mark(path)) is not None}

    def _mark(self, path: Path) -> FileMark | None:
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        known = self._known.get(path)
        seen = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if known is None or known[1:] != seen:
            known = self._known[path] = FileMark(checksum(path), *seen)
        return known
