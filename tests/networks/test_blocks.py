from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dwp_kedro.networks import UNet3D
from dwp_kedro.networks.blocks import PointwiseConv3d, UpBlock, activate, channels_last

CHANNELS_LAST = torch.channels_last_3d


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CHANNELS_LAST])
def test_activation_equals_instance_norm_and_relu_with_its_gradient(memory_format):
    generator = torch.Generator().manual_seed(0)
    x = 3 + 2 * torch.randn(2, 3, 4, 6, 5, generator=generator, dtype=torch.float64)
    x[1] *= 10  # each volume has statistics of its own
    outer = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    results = []
    for function in (activate, lambda x: F.relu(F.instance_norm(x))):
        leaf = x.to(memory_format=memory_format).requires_grad_()
        y = function(leaf)
        y.backward(outer)
        results.append((y, leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)
    assert results[0][0].is_contiguous(memory_format=memory_format)
    assert results[0][1].is_contiguous(memory_format=memory_format)


def test_activation_is_accurate_in_float32_and_rounds_once_in_bfloat16():
    x = channels_last(3 + 2 * torch.randn(2, 16, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
    exact = F.relu(F.instance_norm(x.double()))
    torch.testing.assert_close(activate(x).double(), exact, rtol=1e-4, atol=1e-4)
    rounded = x.bfloat16()
    exact = F.relu(F.instance_norm(rounded.double()))
    assert activate(rounded).dtype == torch.bfloat16
    torch.testing.assert_close(activate(rounded).double(), exact, rtol=2**-7, atol=2**-8)


def test_a_single_channel_gets_the_strides_of_channels_last():
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 1, 3, 4, 5)
    assert channels_last(x).stride() == (60, 1, 20, 5, 1)
    assert torch.equal(channels_last(x), x)


def test_pointwise_convolution_is_torchs_own():
    layer = PointwiseConv3d(3, 5, 1, bias=False)
    x = torch.randn(2, 3, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), F.conv3d(x, layer.weight))
    torch.testing.assert_close(layer(channels_last(x)), F.conv3d(x, layer.weight))


def test_bfloat16_stays_bfloat16_through_a_block():
    """Autocast would interpolate in float32, and all after it would be."""
    seen = []
    block = UpBlock(4, 2)
    block.conv_2.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        y = block(torch.randn(1, 4, 2, 2, 2).bfloat16(), torch.randn(1, 2, 4, 4, 4).bfloat16())
    assert [*seen, y.dtype] == [torch.bfloat16, torch.bfloat16]


def test_every_convolution_sees_channels_last_and_gives_it_on():
    """One layer that lost the memory format would make all after it slow, and no other test would tell."""
    network = UNet3D(channels=(2, 3, 4, 5))
    layers = {name: m for name, m in network.named_modules() if isinstance(m, torch.nn.Conv3d)}
    strides = {name: [] for name in layers}

    def record(name, x, y):
        strides[name] += [x.stride(1), y.stride(1)]
        y.register_hook(lambda gradient: strides[name].append(gradient.stride(1)))

    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, args, y, name=name: record(name, args[0], y))
    network(torch.randn(2, 1, 16, 16, 24)).square().sum().backward()
    assert {name for name, of_layer in strides.items() if of_layer != [1, 1, 1]} == set()
