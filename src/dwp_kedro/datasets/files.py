"""What the datasets of one file share: fsspec, versions, and writing that never leaves half a file behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import (
    AbstractVersionedDataset,
    DatasetError,
    Version,
    get_filepath_str,
    get_protocol_and_path,
)

from dwp_kedro.atomic_write import atomic_file

Value = TypeVar("Value")


def write_atomically(fs: fsspec.AbstractFileSystem, path: str, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``.

    If ``write`` fails, the temporary file is removed, what was at ``path`` stays as it was, and the error is
    passed on.

    Raises:
        WriteError: if the local disk is full, or the place must not be written to.
    """
    if isinstance(fs, LocalFileSystem):
        with atomic_file(Path(path)) as place, place.open("wb") as local:
            write(local)
        return
    target = PurePosixPath(path)
    temporary = str(target.with_name(f".{target.name}.{uuid4().hex}.tmp"))
    fs.makedirs(str(target.parent), exist_ok=True)
    try:
        with fs.open(temporary, "wb") as file:
            write(file)
        fs.mv(temporary, path)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise


class FileDataset(AbstractVersionedDataset[Value, Value]):
    """Base of the datasets that are one file, local or on any file system that fsspec knows."""

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str],
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a file.

        Args:
            filepath: POSIX path, or URL of any protocol that fsspec knows.
            version: see Kedro's versioning; load None is the latest, save None a new one.
            credentials: for the file system, for example ``{"key": …, "secret": …}``.
            fs_args: further arguments of the file system.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.
        """
        protocol, path = get_protocol_and_path(filepath, version)
        self._protocol = protocol
        self._fs = fsspec.filesystem(protocol, **(deepcopy(credentials) or {}), **(deepcopy(fs_args) or {}))
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    def _load_file(self) -> str:
        """Path, as the file system takes it, of the file to load."""
        return get_filepath_str(self._get_load_path(), self._protocol)

    def _save_atomically(self, write: Callable[[BinaryIO], object]) -> None:
        write_atomically(self._fs, get_filepath_str(self._get_save_path(), self._protocol), write)
        self._invalidate_cache()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "protocol": self._protocol, "version": self._version}

    def _exists(self) -> bool:
        try:
            path = self._load_file()
        except DatasetError:
            return False
        return bool(self._fs.exists(path))

    def _release(self) -> None:
        super()._release()
        self._invalidate_cache()

    def _invalidate_cache(self) -> None:
        self._fs.invalidate_cache(get_filepath_str(self._filepath, self._protocol))
