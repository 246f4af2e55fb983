from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io.core import DatasetError

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.datasets import CheckpointDataset, KernelTensorDataset
from dwp_kedro.datasets.handover import HandoverDataset
from dwp_kedro.networks.checkpoint import Checkpoint


def _prior(value: float) -> dict[str, Any]:
    checkpoint = Checkpoint({"weight": torch.full((2,), value)}, {"value": value})
    return {"": checkpoint, ".md": lambda content: hashlib.sha256(content).hexdigest()}


def _kernels(value: float) -> dict[str, Any]:
    zeros = torch.zeros(2, dtype=torch.int64)
    kernels = KernelTensor(torch.full((2, 3, 3, 3), float(value)), ["network_0"] * 2, ["a"] * 2, zeros, zeros)
    return {"/card.json": {"name": "plaques", "value": value}, "/group_1_kernels.safetensors": kernels}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_handed_over_is_read_by_others(tmp_path: Path):
    file = tmp_path / "folder" / "prior.safetensors"
    HandoverDataset(filepath=str(file), ending=".safetensors").save(_prior(1))
    assert CheckpointDataset(filepath=str(file)).load().metadata == {"value": 1}
    assert (tmp_path / "folder/prior.safetensors.md").read_text() == hashlib.sha256(file.read_bytes()).hexdigest()

    HandoverDataset(filepath=str(tmp_path / "kernels")).save(_kernels(2))
    found = KernelTensorDataset(filepath=str(tmp_path / "kernels/group_1_kernels.safetensors")).load()
    assert (found.kernels.unique().tolist(), found.network) == ([2], ["network_0"] * 2)
    assert json.loads((tmp_path / "kernels/card.json").read_text()) == {"name": "plaques", "value": 2}


@pytest.mark.parametrize("make", [_prior, _kernels])
@pytest.mark.parametrize("present", [0, 1, slice(0, 2)], ids=["first", "second", "both"])
def test_another_ones_files_are_never_mixed_with_ours(tmp_path: Path, make: Any, present: Any):
    place = tmp_path / "p.safetensors"
    HandoverDataset(filepath=str(place)).save(make(1))
    written = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    kept = written[present] if isinstance(present, slice) else [written[present]]
    for path in set(written) - set(kept):
        path.unlink()
    before = _contents(kept[0].parent)
    with pytest.raises(DatasetError, match="Nothing was written") as caught:
        HandoverDataset(filepath=str(place)).save(make(2))
    assert _contents(kept[0].parent) == before
    lines = str(caught.value).splitlines()
    assert sorted(line.strip() for line in lines[1:-1]) == sorted(path.as_posix() for path in kept)
    assert "overwrite=true" in lines[-1]

    HandoverDataset(filepath=str(place), overwrite=True).save(make(2))
    after = _contents(kept[0].parent)
    assert len(after) == 2
    assert all(after[name] != content for name, content in before.items())


def test_ones_own_export_can_be_repeated_and_completed(tmp_path: Path):
    dataset = HandoverDataset(filepath=str(tmp_path / "kernels"))
    dataset.save(_kernels(1))
    first = _contents(tmp_path / "kernels")
    assert not dataset.exists(), "only what would be saved tells whether an export is done"
    (tmp_path / "kernels/card.json").unlink()
    dataset.save(_kernels(1))
    dataset.save(_kernels(1))
    assert _contents(tmp_path / "kernels") == first


@pytest.mark.parametrize(
    ("name", "overwrite", "message"),
    [
        ("prior.txt", False, r"must end in \.safetensors"),
        ("prior.safetensors", "perhaps", "overwrite is 'perhaps'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, name: str, overwrite: Any, message: str):
    dataset = HandoverDataset(filepath=str(tmp_path / name), ending=".safetensors", overwrite=overwrite)
    with pytest.raises(DatasetError, match=message):
        dataset.save(_prior(1))
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_read_here(tmp_path: Path):
    with pytest.raises(DatasetError, match="handed over"):
        HandoverDataset(filepath=str(tmp_path / "kernels")).load()
