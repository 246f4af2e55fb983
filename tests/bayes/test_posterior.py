from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dwp_kedro.bayes.groups import KernelGroup, kernel_groups
from dwp_kedro.bayes.noise import noise_like
from dwp_kedro.bayes.posterior import BayesianConv3d, BayesianNetwork
from dwp_kedro.networks import UNet3D
from dwp_kedro.networks.unet import initialise_he

OPTIONS = [{"padding": 1}, {"padding": 2, "dilation": 2}, {"padding": 1, "stride": 2, "groups": 2}]


def _posterior(sigma: float = 0.05) -> tuple[UNet3D, BayesianNetwork]:
    network = UNet3D(channels=(2, 3, 3, 4))
    initialise_he(network, torch.Generator().manual_seed(0))
    groups = kernel_groups(network, 1)
    return network, BayesianNetwork(network, groups, {group.name: sigma for group in groups})


def test_prediction_at_the_mean_equals_the_plain_network_exactly():
    network, posterior = _posterior()
    x = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(posterior(x), network(x))


@pytest.mark.parametrize("options", OPTIONS)
def test_a_convolution_of_any_stride_dilation_and_channel_groups_at_its_mean_equals_the_plain_one(options):
    convolution = nn.Conv3d(4, 6, 3, **options)
    x = torch.randn(2, 4, 9, 9, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(BayesianConv3d(convolution, sigma=0.3)(x), convolution(x))


def test_prediction_at_the_mean_is_the_plain_networks_after_all_parameters_have_moved_too():
    network, posterior = _posterior()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    moved = posterior.network.state_dict()
    plain = UNet3D(channels=network.channels)
    plain.load_state_dict(
        {name: moved.get(name, moved.get(name.replace(".weight", ".mean"))) for name in plain.state_dict()}
    )
    x = torch.randn(1, 1, 16, 16, 16, generator=generator)
    assert torch.equal(posterior(x), plain(x))
    assert not torch.allclose(posterior(x), network(x))


def test_convolutions_that_pad_with_anything_but_zeros_are_refused():
    with pytest.raises(ValueError, match=r"pads with zeros, and Conv3d\(.*padding_mode=reflect\) does not"):
        BayesianConv3d(nn.Conv3d(1, 1, 3, padding=1, padding_mode="reflect"), sigma=0.1)


def test_a_weight_sample_is_shared_by_the_batch_and_gone_afterwards():
    _, posterior = _posterior()
    x = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)).expand(2, -1, -1, -1, -1)
    plain = posterior(x)
    with posterior.weight_sample(torch.Generator().manual_seed(2)):
        first, second = posterior(x)
        again = posterior(x)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert torch.equal(again[0], first)
    assert not torch.allclose(first, plain[0])
    assert torch.equal(posterior(x), plain)


def test_local_reparameterisation_has_the_mean_and_variance_of_weight_samples():
    generator = torch.Generator().manual_seed(3)
    layer = BayesianConv3d(nn.Conv3d(2, 2, 3, padding=1), sigma=0.3)
    x = torch.rand(1, 2, 4, 4, 4, generator=generator)  # positive, so that neighbours have much in common
    n = 2000
    with torch.no_grad():
        shared = []
        for _ in range(n):
            layer.sample = layer.draw(generator)
            shared.append(layer(x))
        layer.sample, layer.local_noise = None, generator
        local = torch.cat([layer(x) for _ in range(n)])
    shared = torch.cat(shared)
    # Each statistic of n draws has its own standard error; 5 of them is a bound that holds for 256 values.
    deviation = shared.std(0)
    assert ((shared.mean(0) - local.mean(0)).abs() < 5 * deviation * (2 / n) ** 0.5).all()
    assert ((shared.var(0) / local.var(0) - 1).abs() < 5 * (4 / n) ** 0.5).all()
    neighbours = [torch.corrcoef(y[:, 0, 1, 1, 1:3].T)[0, 1].item() for y in (shared, local)]
    assert abs(neighbours[1]) < 5 * n**-0.5, "voxels are independent"
    assert neighbours[0] > 0.15, "shared samples correlate neighbouring voxels"


def test_gradients_reach_means_and_log_variances():
    _, posterior = _posterior()
    x = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    for mode in (posterior.weight_sample, posterior.local_reparameterisation):
        posterior.zero_grad()
        with mode(torch.Generator().manual_seed(2)):
            posterior(x).square().sum().backward()
        layer = posterior.layer("down6.conv_1")
        assert layer.mean.grad is not None
        assert layer.raw_log_variance.grad is not None
        assert layer.mean.grad.abs().max() > 0
        assert layer.raw_log_variance.grad.abs().max() > 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("options", OPTIONS)
def test_local_reparameterisation_is_its_formula_with_its_gradients(memory_format, options):
    """mean + √(σ² ∗ x²)·ε, differentiated by autograd."""
    layer = BayesianConv3d(nn.Conv3d(2, 4, 3, **options), sigma=0.3)
    x = torch.randn(2, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format)
    layer.local_noise = torch.Generator().manual_seed(1)
    inputs = [x.requires_grad_(), layer.mean, layer.raw_log_variance, layer.bias]
    y = layer(x)
    noise = noise_like(y, torch.Generator().manual_seed(1))
    variance = F.conv3d(x.square(), layer.log_variance.exp(), **options)
    expected = F.conv3d(x, layer.mean, layer.bias, **options) + variance.sqrt() * noise
    torch.testing.assert_close(y, expected)
    outer = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    for gradient, wanted in zip(
        torch.autograd.grad(y, inputs, outer), torch.autograd.grad(expected, inputs, outer), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_empty_inputs_give_finite_gradients():
    layer = BayesianConv3d(nn.Conv3d(1, 1, 3, padding=1), sigma=0.3)
    layer.local_noise = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 1, 3, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert layer.raw_log_variance.grad.count_nonzero() == 0
    assert x.grad.isfinite().all()


def test_local_noise_repeats_bit_for_bit_with_its_seed():
    _, posterior = _posterior()
    x = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    runs = []
    for seed in (2, 2, 3):
        posterior.zero_grad()
        with posterior.local_reparameterisation(torch.Generator().manual_seed(seed)):
            y = posterior(x)
        y.square().sum().backward()
        runs.append((y, posterior.layer("down6.conv_1").raw_log_variance.grad.clone()))
    for first, same, other in zip(*runs, strict=True):
        assert torch.equal(first, same)
        assert not torch.equal(first, other)


def _local_noise(posterior: BayesianNetwork, x: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
    """What each layer added to its mean, in standard deviations, flattened."""
    found = []

    def note(layer, inputs, output):
        mean = F.conv3d(inputs[0], layer.mean, layer.bias, padding=1)
        variance = F.conv3d(inputs[0].square(), layer.log_variance.exp(), padding=1)
        found.append(((output - mean) / variance.sqrt()).flatten())

    hooks = [m.register_forward_hook(note) for m in posterior.modules() if isinstance(m, BayesianConv3d)]
    with torch.no_grad(), posterior.local_reparameterisation(generator):
        posterior(x)
    for hook in hooks:
        hook.remove()
    return found


def test_local_noise_is_new_in_every_layer_and_in_every_block():
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(*(nn.Conv3d(2, 2, 3, padding=1) for _ in range(3)))
    initialise_he(network, generator)
    posterior = BayesianNetwork(network, kernel_groups(network, 2), {"group_1": 0.3})
    x = torch.randn(2, 2, 8, 8, 8, generator=generator)
    noises = [noise for _ in range(2) for noise in _local_noise(posterior, x, generator)]
    assert len(noises) == 6
    correlation = torch.corrcoef(torch.stack(noises))
    assert (correlation - torch.eye(6)).abs().max() < 5 * noises[0].numel() ** -0.5


def test_local_noise_makes_a_mean_over_voxels_vary_less_than_weight_samples_do():
    """Noise of its own in each voxel averages out; one weight is off in all of them."""
    _, posterior = _posterior()
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    generator, variance = torch.Generator().manual_seed(2), []
    for mode in (posterior.weight_sample, posterior.local_reparameterisation):
        losses = []
        for _ in range(100):
            with torch.no_grad(), mode(generator):
                losses.append(posterior(x)[:, 1].sigmoid().mean())
        variance.append(torch.stack(losses).var().item())
    # The ratio of two such variances is off by a factor of 1.7 in one of a hundred cases.
    assert variance[1] < variance[0] / 3


def test_one_by_one_convolutions_stay_deterministic():
    _, posterior = _posterior()
    names = [name for name, _ in posterior.named_parameters()]
    assert "network.out.weight" in names
    assert "network.down1.down.weight" in names
    assert "network.up1.upsample.weight" in names
    assert "network.init_conv.mean" in names


def test_under_mixed_precision_the_variance_is_computed_in_float32():
    """Noise of σ = 1e-4 on a mean of 0: the output is that of float32, not one rounded to 8 bits."""
    network = nn.Sequential(nn.Conv3d(2, 2, 3, padding=1, bias=False))
    nn.init.zeros_(network[0].weight)
    posterior = BayesianNetwork(network, kernel_groups(network, 2), {"group_1": 1e-4})
    x = 1e-3 * torch.randn(1, 2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    outputs = []
    for enabled in (False, True):
        noise = posterior.local_reparameterisation(torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), noise:
            outputs.append(posterior(x).float())
    assert outputs[0].abs().min() > 0
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=0)


def test_initial_sigma_is_by_group():
    network = UNet3D(channels=(2, 3, 3, 4))
    groups = kernel_groups(network, 1)
    posterior = BayesianNetwork(network, groups, {g.name: 0.01 * (i + 1) for i, g in enumerate(groups)})
    _, log_variance = posterior.kernels(groups[2])
    torch.testing.assert_close((0.5 * log_variance).exp(), torch.full_like(log_variance, 0.03))


def test_a_layer_outside_all_groups_is_refused():
    with pytest.raises(ValueError, match="init_conv"):
        BayesianNetwork(UNet3D(), [KernelGroup("group_1", "x", ("down1.conv_1",))], {"group_1": 0.1})
