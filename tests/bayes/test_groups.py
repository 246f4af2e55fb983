from __future__ import annotations

import torch
from torch import nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.networks import UNet3D

PAPER = {
    "encoder 1/1": (("init_conv", "down1.conv_1"), 528),
    "encoder 1/2": (("down1.conv_2", "down2.conv_1", "down2.conv_2", "down3.conv_1"), 4_096),
    "encoder 1/4": (("down3.conv_2", "down4.conv_1", "down4.conv_2", "down5.conv_1"), 5_120),
    "encoder 1/8": (("down5.conv_2", "down6.conv_1", "down6.conv_2"), 12_288),
    "decoder 1/4": (("up1.conv_1", "up1.conv_2"), 2_048),
    "decoder 1/2": (("up2.conv_1", "up2.conv_2"), 2_048),
    "decoder 1/1": (("up3.conv_1", "up3.conv_2"), 512),
}


def test_groups_are_the_papers_seven_with_its_counts():
    network = UNet3D()
    groups = kernel_groups(network, in_channels=1)
    assert [group.name for group in groups] == [f"group_{i}" for i in range(1, 8)]
    found = {
        group.label: (
            group.layers,
            sum(network.get_parameter(f"{layer}.weight")[:, :, 0, 0, 0].numel() for layer in group.layers),
        )
        for group in groups
    }
    assert found == PAPER


def test_every_kernel_layer_lies_in_exactly_one_group():
    network = UNet3D()
    listed = [layer for group in kernel_groups(network, 1) for layer in group.layers]
    kernel_layers = [n for n, m in network.named_modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] == 3]
    assert sorted(listed) == sorted(kernel_layers)


def test_finding_groups_leaves_the_network_as_it_was():
    network = UNet3D(in_channels=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    kernel_groups(network, in_channels=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())
