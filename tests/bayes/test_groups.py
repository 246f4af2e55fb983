from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet
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
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())


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


class _PointwiseBottleneck(nn.Module):
    """Has no 3×3×3 convolution where the grid is smallest."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)
        self.bottleneck = nn.Sequential(nn.Conv3d(1, 1, 1, stride=2), nn.Conv3d(1, 1, 1))

    def forward(self, x):
        return self.last(nn.functional.interpolate(self.bottleneck(self.first(x)), scale_factor=2))


class _TransposedBottleneck(_PointwiseBottleneck):
    """Rises by a transposed convolution, to a layer that halves the grid again."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(1, 1, 2, stride=2)
        self.last = nn.Conv3d(1, 1, 3, stride=2, padding=1)

    def forward(self, x):
        return self.last(self.up(self.bottleneck(self.first(x))))


@pytest.mark.parametrize("network", [_PointwiseBottleneck, _TransposedBottleneck])
def test_the_resolution_may_rise_between_convolutions_of_other_kernels(network):
    found = {group.label: group.layers for group in kernel_groups(network(), 1)}
    assert found == {"encoder 1/1": ("first",), "decoder 1/1": ("last",)}


class _ResidualBlock(nn.Module):
    """Calls the shortcut of a strided block last, and weighs channels by their means over the volume."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 2, 3, stride=2, padding=1), nn.Conv3d(2, 2, 3, padding=1)
        self.shortcut, self.excitation = nn.Conv3d(1, 2, 1, stride=2), nn.Conv3d(2, 2, 1)
        self.last = nn.Conv3d(2, 2, 3, padding=1)

    def forward(self, x):
        y = self.second(self.first(x))
        return self.last(y * self.excitation(y.mean((2, 3, 4), keepdim=True)) + self.shortcut(x))


def test_neither_a_shortcut_nor_a_weighing_of_channels_is_a_rise():
    found = {group.label: group.layers for group in kernel_groups(_ResidualBlock(), 1)}
    assert found == {"encoder 1/1": ("first",), "encoder 1/2": ("second", "last")}


class _OneVoxelBottleneck(nn.Module):
    """Convolves a grid of one voxel by a 3×3×3 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bottleneck = nn.Conv3d(1, 1, 3, padding=1), nn.Conv3d(1, 1, 3, padding=1)
        self.last = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.last(self.bottleneck(nn.functional.avg_pool3d(self.first(x), 16)).expand_as(x))


def test_from_a_grid_of_one_voxel_it_may_rise_too():
    assert [group.label for group in kernel_groups(_OneVoxelBottleneck(), 1)] == [
        "encoder 1/1",
        "encoder 1/16",
        "decoder 1/1",
    ]


def test_a_network_that_needs_a_larger_cube_says_so():
    network = BasicUNet(3, 1, 2, features=(2, 2, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"fails on a cube of 16 voxels a side \(Expected.*give .* a larger side"):
        kernel_groups(network, 1)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert [group.label for group in kernel_groups(network, 1, side=32)] == [
        *(f"encoder 1/{n}" for n in (1, 2, 4, 8, 16)),
        *(f"decoder 1/{n}" for n in (8, 4, 2, 1)),
    ]
    with pytest.raises(ValueError, match=r"too small.*give .* a larger side"):
        kernel_groups(nn.Sequential(nn.Conv3d(1, 1, 3), nn.MaxPool3d(32)), 1)
