"""Files and folders that are whole or not there, whatever ends the writing."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dwp_kedro.atomic_write import WriteError, atomic_file, atomic_folder

Atomic = Callable[[Path], AbstractContextManager[Path]]


def write_file(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text)


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / text).write_text(text)


def fail_halfway(atomic: Atomic, path: Path, error: BaseException) -> None:
    with atomic(path) as temporary:
        half = temporary if atomic is atomic_file else temporary / "file"
        half.write_text("ha")
        raise error


def content(path: Path) -> str:
    if path.is_file():
        return path.read_text()
    [file] = (file for file in path.rglob("*") if file.is_file())
    assert file.name == file.read_text()
    return file.name


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_what_is_written_replaces_what_was_there(tmp_path: Path, write: Callable[[Path, str], None]):
    for text in ("first", "second"):
        write(tmp_path / "made" / "place", text)
        assert content(tmp_path / "made" / "place") == text
    assert os.listdir(tmp_path / "made") == ["place"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "Free space"),
        (errno.EDQUOT, "raise this user's limit"),
        (errno.EROFS, "Let this user write"),
        (errno.EACCES, "Let this user write"),
    ],
)
@pytest.mark.parametrize(
    ("write", "atomic"), [(write_file, atomic_file), (write_folder, atomic_folder)], ids=["file", "folder"]
)
def test_after_an_error_the_old_is_whole_and_the_message_says_what_to_do(
    tmp_path: Path,
    write: Callable[[Path, str], None],
    atomic: Atomic,
    number: int,
    mend: str,
):
    place = tmp_path / "place"
    write(place, "old")
    with pytest.raises(WriteError, match=mend) as caught:
        fail_halfway(atomic, place, OSError(number, os.strerror(number)))
    assert str(place) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert content(place) == "old"
    assert os.listdir(tmp_path) == ["place"]


def test_other_errors_are_passed_on(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        fail_halfway(atomic_file, tmp_path / "place", KeyboardInterrupt())
    assert os.listdir(tmp_path) == []


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    for left in (f".a.csv.{host}.{dead.pid}.0a.tmp", f".a.csv.{host}.{dead.pid}.0b.tmp-journal"):
        (tmp_path / left).write_text("half")
    (tmp_path / f".a.csv.{host}.{dead.pid}.0c.tmp").mkdir()
    kept = [
        f".a.csv.{host}.{os.getpid()}.0d.tmp",  # at work
        f".a.csv.elsewhere.{dead.pid}.0e.tmp",  # perhaps at work, on another machine
        f".b.csv.{host}.{dead.pid}.0f.tmp",
    ]
    for left in kept:
        (tmp_path / left).write_text("half")
    write_file(tmp_path / "a.csv", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a.csv"])


def test_of_two_that_write_the_same_folder_one_is_there_whole(tmp_path: Path):
    def write_often(text: str) -> None:
        for _ in range(100):
            write_folder(tmp_path / "place", text)

    threads = [threading.Thread(target=write_often, args=(text,)) for text in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(tmp_path / "place") in {"a", "b"}
    assert os.listdir(tmp_path) == ["place"]
