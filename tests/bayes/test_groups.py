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


class _Pyramid(nn.Module):
    """Halves one axis only, calls one layer at both resolutions, and has what a pass could change."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)
        self.narrow = nn.Conv3d(1, 1, 3, padding=1)
        self.norm, self.drop = nn.BatchNorm3d(1), nn.Dropout3d()
        self.last = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x):
        x = self.drop(self.norm(self.shared(self.first(x + 1))))
        half = self.shared(self.narrow(nn.functional.avg_pool3d(x, (2, 2, 1))))
        return self.last(x + nn.functional.interpolate(half, x.shape[2:]))


def test_axes_may_differ_and_a_layer_counts_where_it_is_called_first():
    found = {group.label: group.layers for group in kernel_groups(_Pyramid(), 1)}
    assert found == {
        "encoder 1/1": ("first", "shared"),
        "encoder 1/2×1/2×1/1": ("narrow",),
        "decoder 1/1": ("last",),
    }


def test_statistics_of_batches_modes_and_the_global_generator_stay_as_they_were():
    network = _Pyramid()
    network.drop.eval()
    state = torch.random.get_rng_state()
    kernel_groups(network, 1)
    assert network.norm.running_mean.item() == 0
    assert network.norm.num_batches_tracked.item() == 0
    assert (network.training, network.norm.training, network.drop.training) == (True, True, False)
    assert torch.equal(torch.random.get_rng_state(), state)
