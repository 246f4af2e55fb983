from __future__ import annotations

import json

import pytest
import torch
from monai.networks import nets
from torch import nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines.architectures import DynUNet, network_arguments, new_architecture, rebuild
from dwp_kedro.training.source import new_network

SMALL = (2, 4, 4, 6)
CELL = {"cell": {"method": "ri", "split": 0}}


def checkpoint_of(*networks: nn.Module) -> Checkpoint:
    """As a cell saves them; the metadata go through JSON."""
    metadata = {**network_arguments(networks[0]), **CELL, "components": len(networks)}
    weights = {
        f"component_{k}/{name}": w for k, one in enumerate(networks) for name, w in one.state_dict().items()
    }
    return Checkpoint(weights, json.loads(json.dumps(metadata)))


def bayesian(network: UNet3D | DynUNet, sigma: float) -> BayesianNetwork:
    groups = kernel_groups(network, network.in_channels)
    return BayesianNetwork(network, groups, {group.name: sigma for group in groups})


def test_dynunet_is_monais() -> None:
    network = new_architecture("dynunet", 2, 3, SMALL, seed=0)
    stock = nets.DynUNet(3, 2, 3, (3, 3, 3, 3), (1, 2, 2, 2), (2, 2, 2), filters=(16, 32, 48, 72))
    # MONAI's holds every tensor twice, under two names; so only the second ones are missing.
    missing, unexpected = stock.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("skip_layers.") for name in missing)
    x = torch.randn(1, 2, 16, 24, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x), stock(x))
    assert network(x).shape == (1, 3, 16, 24, 32)


def test_dynunet_has_each_tensor_once_and_its_size() -> None:
    network = DynUNet()
    tensors = list(network.state_dict().values())
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    assert sum(tensor.numel() for tensor in tensors) == sum(p.numel() for p in network.parameters()) == 721_202


@pytest.mark.parametrize("name", ["unet", "dynunet"])
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = new_architecture(name, 1, 2, SMALL, seed=5).state_dict()
    torch.manual_seed(2)
    second = new_architecture(name, 1, 2, SMALL, seed=5).state_dict()
    third = new_architecture(name, 1, 2, SMALL, seed=6).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    convolutions = [key for key, tensor in first.items() if tensor.ndim == 5]
    assert not any(torch.equal(first[key], third[key]) for key in convolutions)


def test_unet_starts_as_everywhere() -> None:
    expected = new_network(1, 2, SMALL, seed=3).state_dict()
    network = new_architecture("unet", 1, 2, SMALL, seed=3)
    assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in expected.items())


def test_dynunet_starts_as_monai_starts_it() -> None:
    for module in new_architecture("dynunet", 1, 2, SMALL, seed=0).modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            weight = module.weight
            sigma = (2 / (1 + 0.01**2) / weight[0].numel()) ** 0.5
            error = sigma / (2 * weight.numel()) ** 0.5  # of a standard deviation
            assert abs(weight.std().item() - sigma) < 4 * error
            assert abs(weight.mean().item()) < 4 * sigma / weight.numel() ** 0.5
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.InstanceNorm3d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()


@pytest.mark.parametrize("shape", [(16, 16, 12), (8, 16, 16), (20, 16, 16)])
def test_dynunet_says_which_sides_it_takes(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8, at least 16.*Set preprocessing\.grid"):
        DynUNet()(torch.zeros(1, 1, *shape))


@pytest.mark.parametrize("name", ["unet", "dynunet"])
@pytest.mark.parametrize("is_bayesian", [False, True])
def test_network_comes_back_from_its_checkpoint(name: str, is_bayesian: bool) -> None:
    plain = [new_architecture(name, 2, 3, SMALL, seed) for seed in (0, 1)]
    networks = [bayesian(one, 0.03 * (k + 1)) for k, one in enumerate(plain)] if is_bayesian else plain
    checkpoint = checkpoint_of(*networks)
    inner = "UNet3D" if name == "unet" else "DynUNet"
    assert checkpoint.metadata["network"] == (f"BayesianNetwork({inner})" if is_bayesian else inner)
    assert checkpoint.metadata["arguments"]["in_channels"] == 2
    again = rebuild(checkpoint)
    assert [type(network) for network in again] == [type(network) for network in networks]
    for network, expected in zip(again, networks, strict=True):
        state = expected.state_dict()
        assert network.state_dict().keys() == state.keys()
        assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in state.items())
    x = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again[1](x), networks[1](x))
    assert not torch.equal(again[1](x), again[0](x))


@pytest.mark.parametrize("name", ["SegResNet", "BayesianNetwork(SegResNet)", "BayesianNetwork(UNet3D", "None"])
def test_unknown_network_is_named(name: str) -> None:
    checkpoint = Checkpoint({}, {**CELL, "network": name, "arguments": {}, "components": 1})
    with pytest.raises(CheckpointError, match="known are UNet3D, DynUNet") as error:
        rebuild(checkpoint)
    assert name in str(error.value)


def test_missing_weights_of_a_component_are_named() -> None:
    checkpoint = checkpoint_of(new_architecture("unet", 1, 2, SMALL, seed=0))
    short = Checkpoint(checkpoint.weights, {**checkpoint.metadata, "components": 2})
    with pytest.raises(CheckpointError, match=r"component 1 of the checkpoint of .*'split': 0"):
        rebuild(short)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"components": "2"}, r"the checkpoint a\.safetensors says of its components '2'"),
        ({"components": 0}, "says of its components 0"),
        ({"arguments": [1]}, r"a\.safetensors says of its network's arguments \[1\]"),
        ({"arguments": {"in_channels": 1, "layers": 5}}, "describes no network that can be built .*layers"),
        ({"arguments": {"in_channels": 10**9}}, r"a\.safetensors does not fit: the network .* has \d+ numbers"),
        ({"network": ["UNet3D"]}, "known are UNet3D, DynUNet"),
    ],
)
def test_metadata_that_describe_no_network_are_refused(changes: dict[str, object], problem: str) -> None:
    checkpoint = checkpoint_of(new_architecture("unet", 1, 2, SMALL, seed=0))
    wrong = Checkpoint(checkpoint.weights, {**checkpoint.metadata, **changes}, source="a.safetensors")
    with pytest.raises(CheckpointError, match=problem):
        rebuild(wrong)
