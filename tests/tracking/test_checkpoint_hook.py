from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from dwp_kedro.datasets import CheckpointDataset, CheckpointsDataset
from dwp_kedro.lineage.checksums import checksum
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.tracking.checkpoint_hook import CheckpointHook, CheckpointNotFoundError, split_references
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.tracking.tracking_error import TrackingError

CELL = "dwp.n5_split0_seed0"
FILE = "models/dwp/n5_split0_seed0.safetensors"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a trained cell and a file from elsewhere, whose names end in a comma and an equals sign."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for number, name in enumerate((FILE, "odd,=.safetensors")):
        CheckpointDataset(filepath=str(tmp_path / name)).save(Checkpoint({"w": torch.zeros(1)}, {"n": number}))
    return tmp_path


def load(project: Path, given: Any, reads: str = "prediction.checkpoints") -> list[int]:
    """Let the hook find what is given, and return the numbers of the checkpoints that then load."""
    cells = {
        "type": "dwp_kedro.datasets.CheckpointDataset",
        "filepath": f"{project}/models/{{method}}/{{cell}}.safetensors",
    }
    catalog = DataCatalog.from_config({"target_evaluation.{method}.{cell}.checkpoint": cells})
    catalog["prediction.checkpoints"] = CheckpointsDataset()
    catalog["params:checkpoint"] = MemoryDataset(given)
    pipeline = Pipeline([node(len, reads, "n", name="count")])
    given_too = {"checkpoint": given, "prior": "a.safetensors"}
    run_params = {"project_path": project.as_posix(), "env": "test", "runtime_params": given_too}
    CheckpointHook().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
    dataset: Any = catalog.get("prediction.checkpoints")
    return [checkpoint.metadata["n"] for checkpoint in dataset.load()] if dataset.exists() else []


def test_a_file_a_cell_and_a_list_are_found(project: Path):
    assert load(project, CELL) == [0]
    assert load(project, FILE) == [0]
    assert load(project, str(project / "odd,=.safetensors")) == [1]
    assert load(project, f"odd,=.safetensors; {CELL}") == [1, 0]
    assert load(project, [CELL, "odd,=.safetensors"]) == [0, 1]


@pytest.mark.parametrize("form", ["{}", "runs:/{}", "runs:/{}/model"])
def test_a_run_of_mlflow_is_found(project: Path, form: str):
    store = MlflowStore(project, "dwp-kedro/test")
    file = project / FILE
    written = {"checkpoint": FILE, "checkpoint_sha256": checksum(file)}
    run_id = store.start_run(CELL, written)
    assert load(project, form.format(run_id)) == [0]
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CheckpointNotFoundError, match="no longer the file that the MLflow run"):
        load(project, form.format(run_id))


def test_a_run_without_a_checkpoint_is_refused(project: Path):
    store = MlflowStore(project, "dwp-kedro/test")
    with pytest.raises(TrackingError, match="made no checkpoint; give the id of a grid cell's run"):
        load(project, store.start_run("parent", {}))
    with pytest.raises(CheckpointNotFoundError, match=r"wrote gone\.safetensors, which is not on this machine"):
        load(project, store.start_run(CELL, {"checkpoint": "gone.safetensors"}))
    with pytest.raises(TrackingError, match="MLflow has no run 0123"):
        load(project, "0123" * 8)


def test_what_is_not_there_is_said(project: Path):
    with pytest.raises(CheckpointNotFoundError) as error:
        load(project, "dwp.n6_split0_seed0")
    assert str(error.value).splitlines() == [
        "checkpoint: the grid cell dwp.n6_split0_seed0 is not trained: "
        f"{project}/models/dwp/n6_split0_seed0.safetensors does not exist. Did you mean {CELL}? If it is in the "
        "grid, train it:",
        "  kedro run --namespaces target_evaluation.dwp.n6_split0_seed0 --env test --params prior=a.safetensors",
    ]
    with pytest.raises(CheckpointNotFoundError, match=rf"nor the id of an MLflow run\. Did you mean {CELL}\?$"):
        load(project, "dwp.n5_split0")
    with pytest.raises(CheckpointNotFoundError, match=r"nope\.pt is neither a file .* MLflow run\.$"):
        load(project, "nope.pt")


@pytest.mark.parametrize("given", [None, "", " ; ", 7, [], ["a", 1], "a;;b"])
def test_nonsense_is_refused(given: Any):
    with pytest.raises(CheckpointNotFoundError, match="say which, for example"):
        split_references(given)


def test_other_pipelines_are_left_alone(project: Path):
    assert load(project, None, reads="params:checkpoint") == []
