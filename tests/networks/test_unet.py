from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dwp_kedro.networks import UNet3D
from dwp_kedro.networks.checkpoint import CheckpointError, load_weights
from dwp_kedro.networks.unet import initialise_he


def _kernel_count(network: nn.Module) -> int:
    return sum(
        m.in_channels * m.out_channels
        for m in network.modules()
        if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3)
    )


def test_parameter_and_kernel_counts_are_the_papers():
    network = UNet3D()
    assert sum(p.numel() for p in network.parameters()) == 726_480
    assert _kernel_count(network) == 26_640


@torch.no_grad()
def test_paper_grid_is_19_23_18_in_the_middle():
    network = UNet3D(channels=(1, 1, 1, 1))
    seen = []
    network.down6.register_forward_hook(lambda module, args, output: seen.append(output.shape[2:]))
    network(torch.zeros(1, 1, 152, 184, 144))
    assert seen == [(19, 23, 18)]


def test_logits_and_gradients_equal_the_published_networks(shared_vectors):
    vectors = load_file(shared_vectors / "unet3d.safetensors")
    network = UNet3D().double()
    prefix = "weight/"
    weights = {k.removeprefix(prefix): v.double() for k, v in vectors.items() if k.startswith(prefix)}
    load_weights(network, weights, "reference")
    logits = network(vectors["input"].double())
    torch.testing.assert_close(logits.float(), vectors["logits"], rtol=1e-5, atol=1e-5)
    foreground = logits.softmax(1)[:, 1]
    ramp = torch.linspace(0, 1, foreground.numel(), dtype=torch.float64).view_as(foreground)
    (foreground * ramp).sum().backward()
    for name, weight in network.named_parameters():
        expected = vectors[f"gradient_norm/{name}"].item()
        assert weight.grad is not None
        assert weight.grad.norm().item() == pytest.approx(expected, rel=1e-4), name


def test_he_initialisation_has_the_right_spread_and_depends_on_its_generator_alone():
    networks = [UNet3D() for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        torch.randn(seed)  # the global generator must not matter
        initialise_he(network, torch.Generator().manual_seed(seed))
    first, same, other = (n.down6.conv_1.weight for n in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.std().item() == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("side", [8, 20])
def test_unsuitable_grids_are_refused(side):
    with pytest.raises(ValueError, match="multiples of 8"):
        UNet3D()(torch.zeros(1, 1, side, 16, 16))


def test_a_checkpoint_that_does_not_fit_names_every_tensor():
    weights = UNet3D(out_channels=3).state_dict()
    del weights["init_conv.weight"]
    weights["stranger"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        load_weights(UNet3D(), weights, "checkpoint 'x'")
    message = str(caught.value)
    assert "init_conv.weight: missing" in message
    assert "stranger: not in the network" in message
    assert "out.weight: checkpoint (3, 16, 1, 1, 1), network (2, 16, 1, 1, 1)" in message
    assert "down1" not in message
