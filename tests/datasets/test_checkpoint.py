from __future__ import annotations

import inspect
import json
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from kedro.io import DataCatalog, DatasetError, Version
from torch import Tensor

from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.networks.checkpoint import Checkpoint

METADATA = {"network": {"channels": [16, 32]}, "seed": 3, "cohort": "größe ×", "loss": 0.1, "none": None}


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def awkward_weights() -> dict[str, Tensor]:
    base = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    return {
        "double": base.double(),
        "bfloat16": base.bfloat16(),
        "half": base.half(),
        "int64": torch.tensor([-(2**62), 2**62]),
        "bool": base > 0,
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
        "transposed": base.T,
        "strided": base[::2, 1::3],
        "expanded": torch.tensor([1.5]).expand(6),
        "base": base,
        "same_memory": base,
    }


@pytest.mark.parametrize("folder", ["{tmp_path}", "memory://{name}"])
def test_round_trip_is_exact(tmp_path: Path, folder: str):
    filepath = folder.format(tmp_path=tmp_path, name=tmp_path.name) + "/models/network.safetensors"
    weights = awkward_weights()
    CheckpointDataset(filepath=filepath).save(Checkpoint(weights, METADATA))
    loaded = CheckpointDataset(filepath=filepath).load()
    assert loaded.metadata == METADATA
    assert loaded.weights.keys() == weights.keys()
    for name, expected in weights.items():
        actual = loaded.weights[name]
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), name
        assert bits(actual) == bits(expected), name


def test_other_programs_can_read_it(tmp_path: Path):
    CheckpointDataset(filepath=tmp_path / "a.safetensors").save(Checkpoint({"w": torch.arange(3)}, {}))
    assert safetensors.torch.load_file(tmp_path / "a.safetensors")["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"short", pickle.dumps({"w": 1}), b"\xff" * 64], ids=range(4))
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "weights.pt").write_bytes(content)
    dataset = CheckpointDataset(filepath=tmp_path / "weights.pt")
    for read in (dataset.load, dataset.preview):
        with pytest.raises(DatasetError, match=r"weights\.pt is not a whole safetensors file.*Delete it"):
            read()


def test_truncated_file_is_refused(tmp_path: Path):
    dataset = CheckpointDataset(filepath=tmp_path / "a.safetensors")
    dataset.save(Checkpoint({"w": torch.zeros(100)}, {}))
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match=r"a\.safetensors is not a whole safetensors file"):
        dataset.load()


def test_foreign_safetensors_file_is_refused_by_name(tmp_path: Path):
    safetensors.torch.save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DatasetError, match=r"foreign\.safetensors is a safetensors file without"):
        CheckpointDataset(filepath=tmp_path / "foreign.safetensors").load()


def test_failed_save_keeps_the_old_checkpoint(tmp_path: Path):
    dataset = CheckpointDataset(filepath=tmp_path / "a.safetensors")
    dataset.save(Checkpoint({"w": torch.ones(1)}, {"seed": 1}))
    with pytest.raises(DatasetError, match=r"a\.safetensors"):
        dataset.save(Checkpoint({"w": torch.zeros(1)}, {"seed": object()}))
    assert dataset.load().metadata == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_versions(tmp_path: Path):
    filepath = tmp_path / "a.safetensors"
    for name in ("2025-01-01", "2025-01-02"):
        CheckpointDataset(filepath=filepath, version=Version(name, name)).save(Checkpoint({}, {"name": name}))
    latest = CheckpointDataset(filepath=filepath, version=Version(None, None))
    assert latest.load().metadata["name"] == "2025-01-02"
    first = CheckpointDataset(filepath=filepath, version=Version("2025-01-01", None))
    assert first.exists()
    assert first.load().metadata["name"] == "2025-01-01"
    assert not CheckpointDataset(filepath=filepath, version=Version("2024-01-01", None)).exists()


def test_factory_pattern(tmp_path: Path):
    catalog = DataCatalog.from_config(
        {
            "{network}.checkpoint": {
                "type": "dwp_kedro.datasets.CheckpointDataset",
                "filepath": f"{tmp_path}/{{network}}.safetensors",
                "metadata": {"kedro-viz": {"layer": "models"}},
            }
        }
    )
    assert not catalog.exists("network_0.checkpoint")
    catalog.save("network_0.checkpoint", Checkpoint({"w": torch.ones(2)}, {}))
    assert catalog.exists("network_0.checkpoint")
    assert not catalog.exists("network_1.checkpoint")
    assert (tmp_path / "network_0.safetensors").exists()


def test_preview_is_json_of_the_header(tmp_path: Path):
    dataset = CheckpointDataset(filepath=tmp_path / "a.safetensors")
    dataset.save(Checkpoint({"conv.weight": torch.zeros(16, 1, 3, 3, 3)}, METADATA))
    preview = json.loads(dataset.preview())
    assert preview == {"metadata": METADATA, "tensors": {"conv.weight": "F32 [16, 1, 3, 3, 3]"}}
    assert inspect.signature(dataset.preview).return_annotation == "JSONPreview"
