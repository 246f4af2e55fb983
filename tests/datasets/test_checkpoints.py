from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kedro.io import DatasetError

from dwp_kedro.datasets import CheckpointDataset, CheckpointsDataset
from dwp_kedro.networks.checkpoint import Checkpoint


def test_files_load_in_the_order_in_which_they_are_named(tmp_path: Path):
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("b", "a")]
    for number, path in enumerate(paths):
        CheckpointDataset(filepath=path).save(Checkpoint({"w": torch.full((2,), float(number))}, {"n": number}))
    dataset = CheckpointsDataset()
    assert not dataset.exists()
    dataset.point_to(paths)
    assert dataset.exists()
    assert [checkpoint.metadata["n"] for checkpoint in dataset.load()] == [0, 1]
    dataset.point_to([*paths, str(tmp_path / "missing.safetensors")])
    assert not dataset.exists()


def test_nothing_named_is_said():
    with pytest.raises(DatasetError, match="--params checkpoint=FILE"):
        CheckpointsDataset().load()


def test_saving_is_refused():
    with pytest.raises(DatasetError, match="saved one by one"):
        CheckpointsDataset().save([])  # type: ignore[arg-type]
