"""What the files and MLflow's records of a project must have in common with those of an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load

EXPERIMENT = "dwp-kedro/test"
UNFINISHED = "unfinished"
_RECORDS = "lineage"
_MADE = ("data", "predicted", "exported")
_MEASURED = re.compile(r"second|memory|minute|created|sha256")
"""What differs from run to run, or is a hash of what does."""


def files_of(project: Path) -> dict[str, Path]:
    """All files that runs have made under their final names, by their path in the project."""
    files = [file for folder in _MADE for file in (project / folder).rglob("*") if file.is_file()]
    results = [file for file in files if not {UNFINISHED, _RECORDS}.intersection(file.parts)]
    named = {file.relative_to(project).as_posix(): file for file in results}
    return {name: file for name, file in named.items() if not re.search(r"(^|/)\.[^/]*\.tmp", name)}


def assert_whole(project: Path, reference: Path) -> None:
    """What is there under its final name must be what the uninterrupted run wrote; so must a folder of volumes."""
    made, wanted = files_of(project), files_of(reference)
    assert made.keys() <= wanted.keys()
    for name, file in made.items():
        assert content(file) == content(wanted[name]), f"{name} is not what an uninterrupted run writes"
    for folder in {file.parent for name, file in wanted.items() if file.parent.name.endswith("_grid")}:
        written = project / folder.relative_to(reference)
        assert not written.exists() or names_in(written) == names_in(folder), written
    for record in project.glob("predicted/*_prediction.json"):
        known = json.loads(record.read_text())
        files = [record.with_name(record.name.replace("prediction.json", suffix)) for suffix in known["files"]]
        assert known["fingerprint"] is None or all(file.is_file() for file in files)
    for state in project.glob(f"data/06_models/test/{UNFINISHED}/*.safetensors"):
        load(state.read_bytes())


def names_in(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


def content(file: Path) -> Any:
    """All of a file that must not differ from run to run."""
    raw = file.read_bytes()
    if file.suffix == ".safetensors":
        return raw[8 + int.from_bytes(raw[:8], "little") :]  # The header has times.
    if file.suffix == ".csv":
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return table[[column for column in table if not _MEASURED.search(column)]].to_csv()
    if file.name.endswith("_prediction.json"):
        return json.loads(raw)["files"]  # Its fingerprint has the checkpoint's header in it, or is yet to come.
    if file.parent.name == "lineage":
        return json.loads(raw)["node"]  # It has hashes and times of files.
    if file.suffix == ".json":
        return _without_measured(json.loads(raw))
    if file.suffix == ".html":
        return raw.rstrip().endswith(b"</html>")
    if file.suffix == ".md":
        return raw.count(b"\n")
    return raw


def _without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_measured(inner) for key, inner in value.items() if not _MEASURED.search(key)}
    return [_without_measured(inner) for inner in value] if isinstance(value, list) else value


def runs_of(project: Path) -> tuple[list[Run], dict[str, list[Run]]]:
    """MLflow's parent runs, and its child runs by name."""
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    names = [experiment.name for experiment in client.search_experiments()]
    assert sorted(names) == ["Default", EXPERIMENT]
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    parents: list[Run] = []
    children: dict[str, list[Run]] = {}
    for found in client.search_runs([experiment.experiment_id]):
        if "mlflow.parentRunId" in found.data.tags:
            children.setdefault(found.info.run_name, []).append(found)
        else:
            parents.append(found)
    return parents, children


def assert_same_records(project: Path, reference: Path) -> None:
    """No run is left RUNNING; each network, VAE and cell has one that is FINISHED and knows what it should."""
    parents, children = runs_of(project)
    _, wanted = runs_of(reference)
    assert children.keys() == wanted.keys()
    assert {found.info.status for found in parents} <= {"FINISHED", "FAILED"}
    for name, found in children.items():
        assert {one.info.status for one in found} <= {"FINISHED", "FAILED", "KILLED"}, name
        finished = [one for one in found if one.info.status == "FINISHED"]
        assert len(finished) == 1, f"{name} has {len(finished)} finished runs"
        assert_same_record(finished[0], project, wanted[name][0], reference)


def assert_same_record(found: Run, project: Path, wanted: Run, reference: Path) -> None:
    name = found.info.run_name
    folders = str(project), str(reference)
    assert {key: value.replace(*folders) for key, value in found.data.params.items()} == wanted.data.params, name
    [kind] = {"checkpoint", "source_posterior"} & wanted.data.tags.keys()
    place = found.data.tags[kind]
    assert place == wanted.data.tags[kind], name
    assert found.data.tags[f"{kind}_sha256"] == hashlib.sha256((project / place).read_bytes()).hexdigest(), name
    metrics = {key: value for key, value in wanted.data.metrics.items() if not _MEASURED.search(key)}
    # The curves are of the process that trained, and in its run.
    absent = (metrics.keys() - found.data.metrics.keys()) & curves_of(reference)
    assert {key: found.data.metrics.get(key) for key in metrics.keys() - absent} == {
        key: value for key, value in metrics.items() if key not in absent
    }, name


def curves_of(project: Path) -> set[str]:
    """Names of all curves of trainings."""
    histories = project.glob("data/06_models/test/**/*_history.csv")
    return {column for file in histories for column in pd.read_csv(file, nrows=0).columns}
