from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.tracking.output_hook import OutputHook, ReadOnlyOutputError


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def two_nodes(ran: list[str]) -> Pipeline:
    def make(name: str) -> str:
        ran.append(name)
        return name

    return Pipeline(
        [node(lambda name=name: make(name), None, name, name=f"make_{name}") for name in ("first", "second")]
    )


@pytest.fixture
def catalog(tmp_path: Path) -> DataCatalog:
    files = {
        name: {"type": "text.TextDataset", "filepath": f"{tmp_path}/{name}/a.txt"} for name in ("first", "second")
    }
    return DataCatalog.from_config(files)


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the system says must not be written to: root may write to any, but on a read-only disk."""
    folder = tmp_path / "second"
    folder.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    return folder


def test_a_run_that_could_not_save_is_refused_before_it_runs(
    two_nodes: Pipeline, catalog: DataCatalog, read_only: Path, run_pipeline: Any, tmp_path: Path, ran: list[str]
):
    with pytest.raises(ReadOnlyOutputError) as caught:
        run_pipeline(two_nodes, catalog, (OutputHook(),), tmp_path)
    assert str(caught.value).splitlines()[1:] == [f"  {read_only}"]
    assert ran == []


def test_what_is_made_already_needs_no_folder(
    two_nodes: Pipeline, catalog: DataCatalog, read_only: Path, run_pipeline: Any, tmp_path: Path, ran: list[str]
):
    (read_only / "a.txt").write_text("made")
    run_pipeline(two_nodes, catalog, (OutputHook(),), tmp_path, only_missing_outputs=True)
    assert ran == ["first"]


def test_folders_that_are_not_there_yet_will_be_made(
    two_nodes: Pipeline, catalog: DataCatalog, run_pipeline: Any, tmp_path: Path, ran: list[str]
):
    run_pipeline(two_nodes, catalog, (OutputHook(),), tmp_path)
    assert ran == ["first", "second"]
