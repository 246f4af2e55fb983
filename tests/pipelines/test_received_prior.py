"""A colleague's prior, and no source data at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog

from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.pipelines.target_evaluation.cell import Cell, train_cell


@pytest.fixture
def hospital(finished_project: Path, new_project: Path) -> Path:
    """A project that holds the target cohort and a prior file, and is told to use it."""
    raw = Path("data/01_raw")
    shutil.copytree(finished_project / raw / "phantom/tumours", new_project / raw / "phantom/tumours")
    shutil.copy(finished_project / "data/06_models/test/prior.safetensors", new_project / raw)
    parameters = new_project / "conf/test/parameters_target_evaluation.yml"
    text = parameters.read_text()
    assert text.startswith("grid:\n")
    parameters.write_text(text.replace("grid:\n", "grid:\n  prior: received\n", 1))
    return new_project


def test_all_methods_run_from_the_prior_file_alone(hospital: Path, open_project: Any, run_project: Any):
    context = open_project(hospital)
    names = {node.name for node in pipelines["__default__"].nodes}
    assert not [name for name in names if name.startswith(("source_training", "prior_learning"))]
    assert not [name for name in names if name.endswith("_source")]
    run_project(hospital, tags=["data_processing", "n2"])
    for method in context.params["grid"].methods:
        scores = pd.read_csv(hospital / f"data/07_model_output/test/{method}/n2_split0_seed0/scores.csv")
        assert scores["dsc"].between(0, 1).all()
    assert not (hospital / "data/01_raw/phantom/plaques").exists()


def test_a_method_that_starts_from_a_source_network_is_refused_by_name(
    finished_project: Path, hospital: Path, open_project: Any
):
    catalog: DataCatalog = open_project(finished_project).catalog
    prior = CheckpointDataset(filepath=str(hospital / "data/01_raw/prior.safetensors")).load()
    bare = {name: tensor for name, tensor in prior.weights.items() if not name.startswith("source_network/")}
    assert len(bare) < len(prior.weights)
    inputs = {
        "volumes": catalog.load("data_processing.target.volumes"),
        "subjects": catalog.load("data_processing.target.subjects"),
        "splits": catalog.load("data_processing.splits"),
        "cohort": catalog.load("params:data_processing.target"),
        "method": catalog.load("params:methods.pr"),
        "training": catalog.load("params:target_training"),
        "network": catalog.load("params:network"),
        "compute": catalog.load("params:compute"),
    }
    with pytest.raises(CheckpointError, match=r"'pr' starts from a source network, and this prior carries none"):
        train_cell(**inputs, cell=Cell("pr", 2, 0, 0), prior=Checkpoint(bare, prior.metadata))
