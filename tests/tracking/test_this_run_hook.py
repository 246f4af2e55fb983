from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.tracking import this_run_hook
from dwp_kedro.tracking.this_run_hook import ThisRunHook
from dwp_kedro.tracking.upstream_hook import UpstreamHook

HOOKS = (UpstreamHook(), ThisRunHook())  # in the project's order: the last one is called first


def keep(this_run: dict[str, str], *_: Any) -> dict[str, str]:
    return this_run


@pytest.fixture
def catalog(tmp_path: Path) -> DataCatalog:
    text = {"type": "text.TextDataset"}
    return DataCatalog.from_config(
        {
            "this_run": {"type": "MemoryDataset"},
            "received_prior": {**text, "filepath": f"{tmp_path}/ms prior.safetensors"},
            "report": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/report.json"},
        }
    )


def test_a_node_learns_of_the_run_it_is_part_of(
    tmp_path: Path, catalog: DataCatalog, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["kedro", "run", "--params", "data_root=/scans", "--only-missing-outputs"])
    monkeypatch.setattr(this_run_hook, "git_state", lambda folder: ("abc", folder != tmp_path))
    before = datetime.now().astimezone().replace(microsecond=0)
    run_pipeline(Pipeline([node(keep, "this_run", "report")]), catalog, HOOKS, tmp_path, only_missing_outputs=True)
    facts = catalog.load("report")
    assert before <= datetime.fromisoformat(facts.pop("started")) <= datetime.now().astimezone()
    assert facts == {
        "command": "kedro run --params data_root=/scans --only-missing-outputs",
        "restricted by": "only missing outputs",
        "commit": "abc",
    }


@pytest.mark.parametrize(
    ("state", "said"), [(None, ""), (("abc", True), "abc, with changes that are not committed")]
)
def test_a_changed_or_unknown_commit_is_said(
    state: Any, said: str, tmp_path: Path, catalog: DataCatalog, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(this_run_hook, "git_state", lambda folder: state)
    run_pipeline(Pipeline([node(keep, "this_run", "report")]), catalog, HOOKS, tmp_path)
    assert catalog.load("report")["commit"] == said


def test_a_received_prior_is_named_with_its_checksum(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    catalog.save("received_prior", "weights")
    run_pipeline(
        Pipeline([node(keep, ["this_run", "received_prior"], "report")]), catalog, HOOKS, tmp_path / "project"
    )
    facts = catalog.load("report")
    assert facts["prior file"] == "ms prior.safetensors"
    assert facts["prior sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_a_run_that_does_not_ask_is_told_nothing(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    run_pipeline(Pipeline([node(lambda: {}, None, "report")]), catalog, HOOKS, tmp_path)
    assert not catalog.exists("this_run")
