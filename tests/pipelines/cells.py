"""Inputs of a grid cell's nodes, from the catalog of a finished project, and what may be asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from kedro.io import DataCatalog

from dwp_kedro.imaging.volume import Volume
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.pipelines.target_evaluation.cell import Cell

# The grid of --env test, whose finished run the tests look at.
METHODS = ["ri", "pr", "prf", "dwp", "dwp_sp", "monai"]
SIZES, SPLITS = [2, 3], [0, 1]
CELLS = [(method, n_train, split) for method in METHODS for n_train in SIZES for split in SPLITS]
N_SAMPLES = 2


def cell_inputs(catalog: DataCatalog, method: str = "dwp") -> dict[str, Any]:
    """Return the arguments of ``train_cell`` for a method that starts from no source network, but the cell."""
    names = {
        "volumes": "data_processing.target.volumes",
        "subjects": "data_processing.target.subjects",
        "splits": "data_processing.splits",
        "cohort": "params:data_processing.target",
        "method": f"params:methods.{method}",
        "training": "params:target_training",
        "network": "params:network",
        "compute": "params:compute",
        "prior": "prior_learning.prior",
    }
    return {argument: catalog.load(name) for argument, name in names.items()}


def training_subjects_of(catalog: DataCatalog, cell: Cell) -> set[str]:
    """Return whom a cell trains on, by the table of splits."""
    splits = catalog.load("data_processing.splits")
    ranked = f"split == {cell.split} and role == 'train' and rank < {cell.n_train}"
    return set(splits.query(ranked)["subject"])


def same_bits(first: Checkpoint, second: Checkpoint) -> bool:
    """Tell whether two checkpoints hold the same weights."""
    assert first.weights.keys() == second.weights.keys()
    return all(torch.equal(tensor, second.weights[name]) for name, tensor in first.weights.items())


class RecordingVolumes(Mapping[str, Callable[[], Volume]]):
    """Volumes that remember how often each of them was asked for."""

    def __init__(self, volumes: Mapping[str, Callable[[], Volume]]) -> None:
        self.volumes, self.asked = volumes, Counter[str]()

    def __getitem__(self, name: str) -> Callable[[], Volume]:
        self.asked[name] += 1
        return self.volumes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.volumes)

    def __len__(self) -> int:
        return len(self.volumes)
