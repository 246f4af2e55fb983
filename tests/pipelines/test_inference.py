from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.imaging.windows import SlidingWindow, WholeVolume
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines.architectures import DynUNet
from dwp_kedro.pipelines.inference import free_bytes, make_inferer, prediction_bytes

CPU = torch.device("cpu")
PATCH = (16, 16, 24)


class Recording(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(16, 1, 3, 3, 3))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape[2:]))
        return x


def free(monkeypatch: pytest.MonkeyPatch, n_bytes: float) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=n_bytes))


@pytest.mark.parametrize(
    ("window", "expected"), [("auto", PATCH), ("whole", (40, 32, 24)), ((32, 16, 16), (32, 16, 16))]
)
def test_a_network_sees_what_a_user_says_or_as_much_as_in_training(monkeypatch, window, expected):
    free(monkeypatch, 1e12 if window == "auto" else 1)
    infer, network = make_inferer(window, PATCH, [Recording()]), Recording()
    assert isinstance(infer, WholeVolume if window == "whole" else SlidingWindow)
    infer(network, torch.zeros(1, 1, 40, 27, 24), CPU)
    assert set(network.seen) == {expected}


@pytest.mark.parametrize(
    ("room_for", "expected"),
    [
        ((64, 48, 48), (64, 48, 48)),
        ((63, 48, 48), (32, 48, 48)),
        ((32, 47, 48), (32, 24, 48)),
        ((32, 24, 47), (32, 24, 24)),
        ((1, 1, 1), (24, 24, 24)),
    ],
)
def test_auto_halves_the_longest_side_until_four_fifths_of_the_memory_are_enough(
    monkeypatch, caplog, room_for, expected
):
    network = Recording()
    free(monkeypatch, 1.0001 * prediction_bytes(room_for, [network]) / 0.8)
    make_inferer("auto", (64, 48, 48), [network])(network, torch.zeros(1, 1, 64, 48, 48), CPU)
    assert set(network.seen) == {expected}
    is_told = "64×48×48 voxels, as in training, do not fit" in caplog.text
    assert is_told == (expected != (64, 48, 48))


def test_the_estimate_is_by_voxel_and_by_the_widest_network_at_full_resolution():
    unet = UNet3D(channels=(8, 16, 16, 32))
    groups = kernel_groups(unet, 1)
    posterior = BayesianNetwork(unet, groups, {group.name: 1.0 for group in groups})
    assert prediction_bytes((10, 10, 10), [unet]) == prediction_bytes((10, 10, 10), [posterior]) == 284_000
    assert prediction_bytes((20, 10, 10), [unet, DynUNet()]) == 2 * prediction_bytes((10, 10, 10), [UNet3D()])


def test_memory_that_torch_keeps_on_a_gpu_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert free_bytes(torch.device("cuda", 0)) == 1400
