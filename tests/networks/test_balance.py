"""Balancing changes sizes of weights, and not what the network computes."""

from __future__ import annotations

import pytest
import torch

from dwp_kedro.networks.balance import balance
from dwp_kedro.networks.unet import UNet3D, initialise_he

# Layers that only a norm reads, and layers that are summed up before one does, by the paper's figure.
ALONE = [
    f"{block}.conv_1" for block in ("down1", "down2", "down3", "down4", "down5", "down6", "up1", "up2", "up3")
]
SUMMED = [
    ["init_conv", "up3.upsample", "up3.conv_2"],
    ["down1.conv_2", "down1.down", "down2.conv_2", "up2.upsample", "up2.conv_2"],
    ["down3.conv_2", "down3.down", "down4.conv_2", "up1.upsample", "up1.conv_2"],
    ["down5.conv_2", "down5.down", "down6.conv_2"],
]


def _network() -> UNet3D:
    network = UNet3D(channels=(4, 6, 6, 8))
    initialise_he(network, torch.Generator().manual_seed(0))
    return network


def _sizes(network: UNet3D) -> dict[str, float]:
    """Root mean square of each layer, relative to He's."""
    weights = {name.removesuffix(".weight"): weight.detach() for name, weight in network.named_parameters()}
    return {name: float((w.square().mean() / (2 / w[0].numel())).sqrt()) for name, w in weights.items()}


def _resized(network: UNet3D, seed: int) -> UNet3D:
    """The same function, with other sizes drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    other = UNet3D(channels=network.channels)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        for names in [*SUMMED, *([name] for name in ALONE)]:
            factor = 4 ** (2 * torch.rand((), generator=generator) - 1)
            for name in names:
                other.get_submodule(name).weight *= factor
            if names == SUMMED[0]:
                other.out.weight /= factor
    return other


def test_balancing_leaves_the_logits():
    network = _resized(_network(), seed=1)
    scan = torch.randn(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = network(scan)
        balance(network)
        after = network(scan)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_balancing_gives_hes_size_to_layers_alone_and_together():
    network = _resized(_network(), seed=3)
    assert max(_sizes(network).values()) > 1.5
    balance(network)
    sizes = _sizes(network)
    assert [sizes[name] for name in ALONE] == pytest.approx([1] * len(ALONE))
    for names in SUMMED:
        assert torch.tensor([sizes[name] for name in names]).log().mean().exp().item() == pytest.approx(1)


def test_networks_that_differ_in_sizes_alone_are_balanced_to_the_same():
    one, other = _network(), _resized(_network(), seed=4)
    balance(one)
    balance(other)
    for name, weight in one.named_parameters():
        torch.testing.assert_close(other.get_parameter(name), weight, rtol=1e-5, atol=1e-7)


def test_what_is_summed_up_keeps_its_proportions():
    network = _network()
    with torch.no_grad():
        network.down2.conv_2.weight *= 3
    before = _sizes(network)
    balance(network)
    after = _sizes(network)
    assert after["down2.conv_2"] / after["down1.down"] == pytest.approx(
        before["down2.conv_2"] / before["down1.down"]
    )


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_layer_without_a_size_is_named(value: float):
    network = _network()
    torch.nn.init.constant_(network.up1.conv_2.weight, value)
    with pytest.raises(ValueError, match=r"up1\.conv_2"):
        balance(network)
