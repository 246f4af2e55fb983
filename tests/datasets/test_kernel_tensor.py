from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kedro.io import DatasetError
from matplotlib.image import imread

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.datasets import CheckpointDataset, KernelTensorDataset
from dwp_kedro.networks.checkpoint import Checkpoint


def kernel_tensor(n: int) -> KernelTensor:
    generator = torch.Generator().manual_seed(n)
    return KernelTensor(
        kernels=torch.randn(n, 3, 3, 3, generator=generator),
        network=[f"network_{(i * 7) % 3}" for i in range(n)],
        layer=["down1.conv", "up3.conv"][: n % 2 + 1] * (n // 2) + ["init"] * (n - (n % 2 + 1) * (n // 2)),
        output_channel=torch.randint(64, (n,), generator=generator),
        input_channel=torch.arange(n),
    )


@pytest.mark.parametrize("n", [0, 1, 40])
def test_round_trip_keeps_kernels_and_provenance(tmp_path: Path, n: int):
    kernels = kernel_tensor(n)
    dataset = KernelTensorDataset(filepath=tmp_path / "kernels" / "group_1.safetensors")
    dataset.save(kernels)
    loaded = dataset.load()
    assert loaded.kernels.dtype == torch.float32
    assert torch.equal(loaded.kernels, kernels.kernels)
    assert (loaded.network, loaded.layer) == (kernels.network, kernels.layer)
    assert torch.equal(loaded.output_channel, kernels.output_channel)
    assert torch.equal(loaded.input_channel, kernels.input_channel)


def test_only_float32_is_saved(tmp_path: Path):
    kernels = kernel_tensor(2)
    double = replace(kernels, kernels=kernels.kernels.double())
    with pytest.raises(DatasetError, match=r"group_1\.safetensors must be float32, got torch\.float64"):
        KernelTensorDataset(filepath=tmp_path / "group_1.safetensors").save(double)


def test_a_checkpoint_is_not_kernels(tmp_path: Path):
    CheckpointDataset(filepath=tmp_path / "a.safetensors").save(Checkpoint({"w": torch.zeros(1)}, {}))
    with pytest.raises(DatasetError, match=r"a\.safetensors holds \['w'\], not kernels"):
        KernelTensorDataset(filepath=tmp_path / "a.safetensors").load()


def test_preview_shows_signs(tmp_path: Path):
    """A kernel that is positive everywhere is drawn red, a negative one blue."""
    dataset = KernelTensorDataset(filepath=tmp_path / "a.safetensors")
    for sign, strong, weak in ((1.0, 0, 2), (-1.0, 2, 0)):
        dataset.save(replace(kernel_tensor(1), kernels=torch.full((1, 3, 3, 3), sign)))
        picture = imread(io.BytesIO(base64.b64decode(dataset.preview())), format="png")
        excess = np.asarray(picture)[..., strong] - np.asarray(picture)[..., weak]
        # The legend has as much of the one as of the other.
        assert np.count_nonzero(excess > 0.2) > 3 * np.count_nonzero(excess < -0.2) > 0


def test_preview_of_no_kernels_says_so(tmp_path: Path):
    dataset = KernelTensorDataset(filepath=tmp_path / "a.safetensors")
    dataset.save(kernel_tensor(0))
    with pytest.raises(DatasetError, match="holds no kernels"):
        dataset.preview()
