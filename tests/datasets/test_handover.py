from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io.core import DatasetError

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.datasets.handover import HandoverCheckpointDataset, HandoverKernelsDataset
from dwp_kedro.networks.checkpoint import Checkpoint


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint({"weight": torch.full((2,), value)}, {"value": value})


def test_another_file_is_replaced_only_if_told_so(tmp_path: Path):
    path = tmp_path / "folder" / "prior.safetensors"
    kept = HandoverCheckpointDataset(filepath=str(path))
    kept.save(checkpoint(1))
    first = path.read_bytes()
    kept.save(checkpoint(1))
    with pytest.raises(
        DatasetError, match=r"prior\.safetensors is there already and is another file.*overwrite=true"
    ):
        kept.save(checkpoint(2))
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["prior.safetensors"]
    HandoverCheckpointDataset(filepath=str(path), overwrite=True).save(checkpoint(2))
    assert kept.load().metadata == {"value": 2}


def test_kernels_come_back_the_same_and_are_not_replaced(tmp_path: Path):
    zeros = torch.zeros(2, dtype=torch.int64)
    dataset = HandoverKernelsDataset(filepath=str(tmp_path / "group_1_kernels.safetensors"))
    kernels = torch.arange(54.0).view(2, 3, 3, 3)
    dataset.save(KernelTensor(kernels, ["network_0"] * 2, ["a"] * 2, zeros, zeros))
    assert torch.equal(dataset.load().kernels, kernels)
    with pytest.raises(DatasetError, match="is another file"):
        dataset.save(KernelTensor(kernels + 1, ["network_0"] * 2, ["a"] * 2, zeros, zeros))


@pytest.mark.parametrize(
    ("name", "overwrite", "message"),
    [
        ("prior.txt", False, r"must end in \.safetensors"),
        ("prior.safetensors", "perhaps", "overwrite is 'perhaps'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, name: str, overwrite: Any, message: str):
    with pytest.raises(DatasetError, match=message):
        HandoverCheckpointDataset(filepath=str(tmp_path / name), overwrite=overwrite).save(checkpoint(1))
    assert list(tmp_path.iterdir()) == []
