"""Files and folders that are whole or not there: written beside their place under a temporary name, then renamed.

A process that is killed leaves its temporary file behind, which nothing reads. Whoever writes to the same place
next removes it.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil

_HOST = socket.gethostname()
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}


class WriteError(RuntimeError):
    """A disk takes no more, or never did; the message names the place and the mend."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; at the end rename what was written there to ``path``, which is replaced.

    Folders are made. After an error the temporary file is removed, and what was at ``path`` stays as it was.

    Raises:
        WriteError: if the disk is full, or the place must not be written to.
    """
    with _beside(path) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; at the end put it in the place of ``path``, with all that was there.

    No system call puts one folder in another's place: a process that is killed between the two that it takes
    leaves no folder at ``path``.

    Raises:
        WriteError: if the disk is full, or the place must not be written to.
    """
    with _beside(path) as temporary:
        temporary.mkdir()
        yield temporary
        _put_in_place(temporary, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which is made; what is still there at the end is removed."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        temporary = _temporary(path)
        try:
            yield temporary
        finally:
            _remove(temporary)


def _put_in_place(temporary: Path, path: Path) -> None:
    replaced = []
    while True:
        try:
            os.rename(temporary, path)
            break
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        replaced.append(_temporary(path))
        with suppress(FileNotFoundError):  # Another process that writes to the same place was quicker.
            os.rename(path, replaced[-1])
    for folder in replaced:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_prefix(path)}{os.getpid()}.{uuid4().hex[:8]}.tmp")


def _prefix(path: Path) -> str:
    return f".{path.name}.{_HOST}."


def _remove_orphans(path: Path) -> None:
    """Remove what dead processes of this machine left: those of others on a shared disk may be at work."""
    prefix = _prefix(path)
    for orphan in path.parent.glob(f"{glob.escape(prefix)}*.tmp*"):
        process = orphan.name.removeprefix(prefix).split(".")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            _remove(orphan)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Tell errors of the disk in words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            mend = "Free space on that disk, or raise this user's limit, then resume."
        elif error.errno in _FORBIDDEN:
            mend = "Let this user write to that folder, then resume."
        else:
            raise
        raise WriteError(
            f"{path} cannot be written: {error.strerror}. {mend} What was there before is as it was."
        ) from error
