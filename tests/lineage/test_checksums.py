from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dwp_kedro.lineage import checksums
from dwp_kedro.lineage.checksums import Checksums, combined, contents


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read."""
    found: list[Path] = []
    original = checksums.checksum
    monkeypatch.setattr(checksums, "checksum", lambda path: (found.append(path), original(path))[1])
    return found


def test_a_file_is_read_again_only_if_size_or_times_differ(tmp_path: Path, read: list[Path]):
    path = tmp_path / "scan"
    path.write_text("a")
    looked = Checksums()
    table = looked.look_at({"scan": path})
    assert contents(table) == {"scan": hashlib.sha256(b"a").hexdigest()}
    assert looked.look_at({"scan": path}) == table
    later = Checksums()
    later.remember({"scan": path}, table)
    assert later.look_at({"scan": path}) == table
    assert read == [path]
    os.utime(path, ns=(0, 0))
    touched = later.look_at({"scan": path})
    assert read == [path, path]
    assert touched != table
    assert contents(touched) == contents(table)


def test_content_of_the_same_size_with_its_time_set_back_is_read(tmp_path: Path):
    path = tmp_path / "scan"
    path.write_text("a")
    os.utime(path, ns=(5, 5))
    looked = Checksums()
    before = looked.look_at({"scan": path})
    path.write_text("b")
    os.utime(path, ns=(5, 5))
    assert contents(looked.look_at({"scan": path})) != contents(before)


def test_what_is_not_there_is_left_out(tmp_path: Path):
    (tmp_path / "file").write_text("")
    missing = {"a": tmp_path / "no", "b": tmp_path / "no" / "no", "c": tmp_path / "file" / "no"}
    assert Checksums().look_at(missing) == {}


def test_one_checksum_of_many_files_has_names_contents_and_no_order(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    files = {name: tmp_path / name for name in "ab"}
    table = Checksums().look_at(files)
    assert combined(table) == combined(dict(reversed(table.items())))
    assert combined(table) != combined({"a": table["b"], "b": table["a"]})
    assert combined(table) != combined({"a": table["a"]})
