from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dwp_kedro.networks.checkpoint import CheckpointError, build_network, load_weights


def weights_of(network: nn.Module, **changes: Tensor) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()} | changes


def test_weights_are_copied() -> None:
    given, network = nn.Linear(3, 2), nn.Linear(3, 2)
    load_weights(network, weights_of(given), "a file")
    assert torch.equal(network.weight, given.weight)
    given.weight.data.zero_()
    assert network.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bias": torch.zeros(3)}, r"bias: checkpoint \(3,\), network \(2,\)"),
        ({"bias": torch.zeros(2, dtype=torch.int64)}, "bias: checkpoint torch.int64, network torch.float32"),
        ({"bias": torch.tensor([0.0, torch.nan])}, "bias: holds NaN or infinite numbers"),
        ({"other": torch.zeros(1)}, "other: not in the network"),
    ],
)
def test_what_differs_is_listed_and_nothing_is_copied(changes: dict[str, Tensor], problem: str) -> None:
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    with pytest.raises(CheckpointError, match=rf"a file does not fit Linear.*\n  {problem}"):
        load_weights(network, weights_of(nn.Linear(3, 2), **changes), "a file")
    assert torch.equal(network.weight, before)


def test_a_network_larger_than_its_file_is_not_built() -> None:
    built: list[torch.device] = []

    def make() -> nn.Module:
        network = nn.Linear(10**6, 10**6)  # 4 TB, if it were
        built.append(network.weight.device)
        return network

    with pytest.raises(
        CheckpointError, match=r"a file does not fit: .* has 1000001000000 numbers, its weights are 6"
    ):
        build_network(make, {"weight": torch.zeros(6)}, "a file")
    assert built == [torch.device("meta")]


@pytest.mark.parametrize("width", [-1, "wide", None, 10**30, 2.5])
def test_arguments_that_make_no_network_are_told(width: Any) -> None:
    with pytest.raises(CheckpointError, match="a file describes no network that can be built"):
        build_network(lambda: nn.Conv3d(width, 1, 3), {}, "a file")


def test_a_network_that_fits_is_built_with_memory() -> None:
    network = build_network(lambda: nn.Linear(3, 2), weights_of(nn.Linear(3, 2)), "a file")
    assert network.weight.device == torch.device("cpu")
