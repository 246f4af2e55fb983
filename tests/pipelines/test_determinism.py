"""A cell's result depends on its own inputs and seed: on no other cell, no runner, no interruption."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cells import RecordingVolumes, cell_inputs, same_bits, training_subjects_of
from kedro.io import DataCatalog

from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.pipelines.source_training.nodes import train_network
from dwp_kedro.pipelines.target_evaluation.cell import Cell, train_cell
from dwp_kedro.progress import listening
from dwp_kedro.tracking.runners import SequentialRunner, ThreadRunner

CELL = Cell("dwp", n_train=2, split=1, seed=0)
KILLED_AT = 7
SMALL_AUGMENTED_RUN = {
    "grid": {"methods": ["dwp", "dwp_sp", "monai"], "n_train": [2], "n_splits": 1},
    "target_training": {"augmentation": {}},
}


def test_a_cell_trained_by_itself_is_the_cell_of_the_whole_run(catalog: DataCatalog):
    finished = catalog.load(f"target_evaluation.{CELL.name}.checkpoint")
    for state_of_the_world in (1, 2):  # of global generators, which other code may use
        torch.manual_seed(state_of_the_world)
        np.random.seed(state_of_the_world)
        checkpoint, history = train_cell(**cell_inputs(catalog), cell=CELL)
        assert same_bits(checkpoint, finished)
        pd.testing.assert_frame_equal(
            history, catalog.load(f"target_evaluation.{CELL.name}.history"), check_dtype=False
        )


@pytest.mark.parametrize("other", [replace(CELL, seed=1), replace(CELL, split=0)])
def test_another_seed_or_split_gives_another_network(catalog: DataCatalog, other: Cell):
    finished = catalog.load(f"target_evaluation.{CELL.name}.checkpoint").weights
    weights = train_cell(**cell_inputs(catalog), cell=other)[0].weights
    kernels = [name for name, tensor in weights.items() if tensor.ndim == 5]
    assert kernels
    assert not any(torch.equal(weights[name], finished[name]) for name in kernels)


def test_methods_of_a_split_differ_in_their_start_and_prior_alone(catalog: DataCatalog):
    """Same order of the training volumes: with nothing learnt, the first batch gives the same loss."""
    inputs = cell_inputs(catalog, "ri")
    twin = inputs["method"].model_copy(update={"trained_layers": ["init_conv", "out"]})
    first = train_cell(**inputs, cell=Cell("ri", 2, 1, 0))[1]
    second = train_cell(**{**inputs, "method": twin}, cell=Cell("twin", 2, 1, 0))[1]
    assert first["data_term"][0] == second["data_term"][0]
    assert first["data_term"][1] != second["data_term"][1]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("method", ["dwp", "monai"])
def test_two_threads_give_the_same_bits_every_time(catalog: DataCatalog, method: str):
    cell = replace(CELL, method=method)
    first, second = (train_cell(**cell_inputs(catalog, method), cell=cell)[0] for _ in range(2))
    assert same_bits(first, second)


def test_training_opens_the_files_of_its_training_subjects_alone_and_once(catalog: DataCatalog):
    inputs = cell_inputs(catalog)
    volumes = RecordingVolumes(inputs["volumes"])
    _, history = train_cell(**{**inputs, "volumes": volumes}, cell=CELL)
    assert len(history) > 1, "a row per epoch"
    asked = (f"{name}/{kind}" for name in training_subjects_of(catalog, CELL) for kind in ("image_0000", "label"))
    assert volumes.asked == Counter(asked)


def test_so_does_the_training_of_a_source_network(catalog: DataCatalog, tmp_path: Path):
    inputs = long_training(source_inputs(catalog), tmp_path)
    volumes = RecordingVolumes(inputs["volumes"])
    _, history, _ = train_network(**{**inputs, "volumes": volumes}, index=0, sample="whole")
    assert len(history) > 1, "a row per epoch"
    assert volumes.asked == Counter(
        f"{name}/{kind}" for name in inputs["subjects"]["subject"] for kind in ("image_0000", "label")
    )


def test_threads_and_a_part_of_the_grid_give_the_same_files(
    project_copy: Path, finished_project: Path, run_project: Any
):
    made = ("data/06_models/test/target_evaluation", "data/07_model_output/test")
    for folder in made:
        shutil.rmtree(project_copy / folder)
    run_project(project_copy, runner=ThreadRunner(max_workers=4), namespaces=["target_evaluation.dwp"])
    files = [path.relative_to(project_copy) for folder in made for path in (project_copy / folder).rglob("*.*")]
    assert {part for file in files for part in file.parts} & {"ri", "pr", "prf", "dwp"} == {"dwp"}
    exact = [file for file in files if file.name == "scores.csv" or file.suffix == ".gz"]
    assert len(exact) == 4 * (1 + 2 * 3)
    for file in exact:
        assert (project_copy / file).read_bytes() == (finished_project / file).read_bytes(), file
    checkpoints = [file for file in files if file.suffix == ".safetensors"]
    assert len(checkpoints) == 4
    for file in checkpoints:
        assert tensor_bytes(project_copy / file) == tensor_bytes(finished_project / file), file


def test_threads_give_every_network_of_a_whole_run_the_same_bits(
    project_copy: Path, finished_project: Path, run_project: Any
):
    """Source networks, their snapshots, kernel VAEs and augmented cells, four at a time and one by one."""
    models, made = project_copy / "data/06_models", []
    for runner in (SequentialRunner(), ThreadRunner(max_workers=4)):
        shutil.rmtree(models)
        run_project(project_copy, runtime_params=SMALL_AUGMENTED_RUN, runner=runner)
        made.append({path.relative_to(models): tensor_bytes(path) for path in models.rglob("*.safetensors")})
    one_by_one, side_by_side = made
    assert one_by_one.keys() == side_by_side.keys()
    assert [path for path, content in one_by_one.items() if side_by_side[path] != content] == []
    finished = {path: tensor_bytes(finished_project / "data/06_models" / path) for path in one_by_one}
    changed = {path for path, content in one_by_one.items() if finished[path] != content}
    cells = {Path(f"test/target_evaluation/{m}/n2_split0_seed0.safetensors") for m in ("dwp", "dwp_sp", "monai")}
    assert changed == cells, "the cells are augmented, and nothing else is"


def tensor_bytes(path: Path) -> bytes:
    """Return the data part of a safetensors file: the header, whose length the first 8 bytes tell, has times."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


class KilledError(Exception):
    """Stands for whatever ends a process in the middle of a training."""


class Executioner:
    """Ends a training at a step, and notes the first step it hears of."""

    def __init__(self, at: int | None) -> None:
        self.at, self.first = at, -1

    def on_progress(self, task: str, completed: int, total: int, metrics: Mapping[str, float]) -> None:
        if not task.startswith(("target ", "source ")):
            return
        if self.first < 0:
            self.first = completed
        if completed == self.at:
            raise KilledError

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        pass


def long_training(inputs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return inputs for 12 steps with a state saved at the end of every epoch."""
    schedule = inputs["training"].schedule.model_copy(update={"max_steps": 12})
    compute = inputs["compute"].model_copy(update={"state_folder": folder, "state_every_seconds": 0})
    training = inputs["training"].model_copy(update={"schedule": schedule})
    return {**inputs, "training": training, "compute": compute}


def train_dwp(catalog: DataCatalog, folder: Path) -> Checkpoint:
    return train_cell(**long_training(cell_inputs(catalog), folder), cell=CELL)[0]


def source_inputs(catalog: DataCatalog) -> dict[str, Any]:
    return {
        "volumes": catalog.load("data_processing.source.volumes"),
        "subjects": catalog.load("data_processing.source.subjects"),
        "cohort": catalog.load("params:data_processing.source"),
        "training": catalog.load("params:source_training"),
        "network": catalog.load("params:network"),
        "compute": catalog.load("params:compute"),
    }


def train_source(catalog: DataCatalog, folder: Path) -> Checkpoint:
    return train_network(**long_training(source_inputs(catalog), folder), index=1, sample="bootstrap")[0]


@pytest.mark.parametrize("train", [train_dwp, train_source])
def test_a_killed_training_goes_on_to_the_same_bits(
    catalog: DataCatalog, tmp_path: Path, train: Callable[[DataCatalog, Path], Checkpoint]
):
    uninterrupted = train(catalog, tmp_path / "uninterrupted")
    killed, resumed = Executioner(KILLED_AT), Executioner(None)
    with pytest.raises(KilledError), listening(killed):
        train(catalog, tmp_path / "killed")
    assert len(list((tmp_path / "killed").iterdir())) == 1
    with listening(resumed):
        checkpoint = train(catalog, tmp_path / "killed")
    # One step an epoch (dwp), or two (source): the last whole epoch before the kill.
    assert (killed.first, resumed.first) == (0, 6)
    assert same_bits(checkpoint, uninterrupted)
    assert checkpoint.metadata["metrics"]["train_dsc"] == uninterrupted.metadata["metrics"]["train_dsc"]
    assert list((tmp_path / "killed").iterdir()) == [], "a finished training leaves no state behind"


def test_a_state_of_other_settings_is_not_taken_up(catalog: DataCatalog, tmp_path: Path):
    with pytest.raises(KilledError), listening(Executioner(KILLED_AT)):
        train_dwp(catalog, tmp_path)
    inputs = long_training(cell_inputs(catalog), tmp_path)
    faster = inputs["training"].schedule.model_copy(update={"learning_rate": 0.5})
    changed = inputs["training"].model_copy(update={"schedule": faster})
    listener = Executioner(None)
    with listening(listener):
        train_cell(**{**inputs, "training": changed}, cell=CELL)
    assert listener.first == 0
