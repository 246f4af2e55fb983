from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import fsspec
import pytest

from dwp_kedro.datasets.files import write_atomically


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_failed_write_leaves_old_file_and_nothing_else(tmp_path: Path, protocol: str):
    fs = fsspec.filesystem(protocol)
    path = f"{tmp_path}/deep/file.bin"
    write_atomically(fs, path, lambda file: file.write(b"old"))

    def fail_halfway(file: BinaryIO) -> None:
        file.write(b"ne")
        raise RuntimeError("disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        write_atomically(fs, path, fail_halfway)
    assert fs.cat_file(path) == b"old"
    assert [Path(name).name for name in fs.ls(f"{tmp_path}/deep", detail=False)] == ["file.bin"]


def test_write_replaces(tmp_path: Path):
    fs = fsspec.filesystem("file")
    path = str(tmp_path / "file.bin")
    write_atomically(fs, path, lambda file: file.write(b"a longer first content"))
    write_atomically(fs, path, lambda file: file.write(b"second"))
    assert fs.cat_file(path) == b"second"
