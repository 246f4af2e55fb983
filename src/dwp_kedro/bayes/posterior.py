"""A fully factorised Gaussian posterior over a network's 3×3×3 convolutions.

Its weights can act in three ways: at their mean (prediction), as one sample shared by the whole batch
(Algorithm 1 of Kuzina et al. 2019), or by local reparameterisation (Kingma et al. 2015), which samples each
layer's *output* voxel by voxel with the mean and the variance that shared samples would give it. The second is
what the ELBO is a bound for. The third draws independent noise in every voxel, so it has less variance and is a
different regulariser.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dwp_kedro.bayes.groups import KernelGroup, is_kernel_layer, layer_kernels
from dwp_kedro.bayes.noise import noise_like, standard_normal

LOG_VARIANCE_RANGE = (-20.0, 2.0)
_SMALLEST_VARIANCE = 1e-12  # of an output; the square root's slope at 0 is infinite


class _AddNoise(torch.autograd.Function):
    """Add √variance·noise to the mean, given a quarter v of the variance: the slope in v is then noise/√v.

    It keeps that slope alone for the backward pass, which is one product; autograd would keep three tensors of the
    output's size and pass over them seven times. It uses up ``noise`` and writes into ``mean``, which
    leaves a tensor of that size less at a step's peak of memory.
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, quarter_variance: Tensor, noise: Tensor) -> Tensor:
        half_deviation = quarter_variance.clamp_min(_SMALLEST_VARIANCE / 4).sqrt_()
        ctx.mark_dirty(mean)
        mean.addcmul_(half_deviation, noise, value=2)
        ctx.save_for_backward(noise.div_(half_deviation))
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradient, gradient * slope, None


class BayesianConv3d(nn.Module):
    """A convolution whose weights are independent Gaussians.

    ``mean`` and ``log_variance`` have the weight's shape (out, in, 3, 3, 3). A bias stays deterministic.

    Raises:
        ValueError: if the convolution pads with anything but zeros.
    """

    def __init__(self, convolution: nn.Conv3d, sigma: float) -> None:
        super().__init__()
        if convolution.padding_mode != "zeros":
            raise ValueError(
                f"a Bayesian convolution pads with zeros, and {convolution} does not: build the network with "
                "padding_mode='zeros'"
            )
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups
        self.mean = nn.Parameter(convolution.weight.detach().clone())
        self.raw_log_variance = nn.Parameter(torch.full_like(self.mean, 2 * torch.tensor(sigma).log().item()))
        self.bias = None if convolution.bias is None else nn.Parameter(convolution.bias.detach().clone())
        self.sample: Tensor | None = None
        self.local_noise: torch.Generator | None = None

    @property
    def log_variance(self) -> Tensor:
        """Log-variance of the weights, within :data:`LOG_VARIANCE_RANGE`."""
        return self.raw_log_variance.clamp(*LOG_VARIANCE_RANGE)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw one weight, reparameterised: mean + σ·ε."""
        return self.mean + (0.5 * self.log_variance).exp() * standard_normal(self.mean.shape, generator, self.mean)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, x, y, z) → (batch, out, x', y', z'), as the current mode of the weights says."""
        if self.local_noise is None:
            return self._convolve(x, self.mean if self.sample is None else self.sample, self.bias)
        mean = self._convolve(x, self.mean, self.bias)
        # float32 even under mixed precision: squares of small weights underflow in half precision.
        precise = torch.promote_types(mean.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            quarter = self._convolve(x.to(precise).square(), self.log_variance.to(precise).exp() / 4, None)
            return _AddNoise.apply(mean.to(precise), quarter, noise_like(quarter.detach(), self.local_noise))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv3d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class BayesianNetwork(nn.Module):
    """A copy of a network with Gaussian 3×3×3 kernels; everything else stays deterministic.

    Args:
        network: any network whose 3×3×3 convolutions all lie in one of ``groups``.
        groups: from :func:`dwp_kedro.bayes.groups.kernel_groups`.
        initial_sigma: standard deviation of the weights at the start, by group name.

    Called plainly it predicts at the posterior mean, and equals the network it was made from.
    """

    def __init__(
        self, network: nn.Module, groups: Sequence[KernelGroup], initial_sigma: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.groups = tuple(groups)
        for group in groups:
            for name in group.layers:
                parent, _, child = name.rpartition(".")
                convolution = self.network.get_submodule(name)
                assert isinstance(convolution, nn.Conv3d)
                bayesian = BayesianConv3d(convolution, initial_sigma[group.name])
                setattr(self.network.get_submodule(parent), child, bayesian)
        left_out = [name for name, module in self.network.named_modules() if is_kernel_layer(module)]
        if left_out:
            raise ValueError(f"these 3×3×3 convolutions are in no kernel group: {', '.join(left_out)}")

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on (batch, in, x, y, z)."""
        return self.network(x)

    def layer(self, name: str) -> BayesianConv3d:
        """Return the Bayesian layer of this name."""
        layer = self.network.get_submodule(name)
        assert isinstance(layer, BayesianConv3d)
        return layer

    def kernels(self, group: KernelGroup) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the group's kernels, (n, 27) each."""
        layers = [self.layer(name) for name in group.layers]
        return (
            torch.cat([layer_kernels(layer.mean) for layer in layers]),
            torch.cat([layer_kernels(layer.log_variance) for layer in layers]),
        )

    @torch.no_grad()
    def mean_log_variance(self) -> Tensor:
        """Mean log-variance of all weights of 3×3×3 kernels; its curve tells how far σ has moved."""
        layers = self._bayesian_layers()
        total = torch.stack([layer.log_variance.sum() for layer in layers]).sum()
        return total / sum(layer.mean.numel() for layer in layers)

    @contextlib.contextmanager
    def weight_sample(self, generator: torch.Generator) -> Iterator[None]:
        """Within the block, every pass uses one and the same sample of the weights."""
        layers = self._bayesian_layers()
        for layer in layers:
            layer.sample = layer.draw(generator)
        try:
            yield
        finally:
            for layer in layers:
                layer.sample = None

    @contextlib.contextmanager
    def local_reparameterisation(self, generator: torch.Generator) -> Iterator[None]:
        """Within the block, each layer's output is sampled voxel by voxel."""
        layers = self._bayesian_layers()
        for layer in layers:
            layer.local_noise = generator
        try:
            yield
        finally:
            for layer in layers:
                layer.local_noise = None

    def _bayesian_layers(self) -> list[BayesianConv3d]:
        return [module for module in self.network.modules() if isinstance(module, BayesianConv3d)]
