"""Which networks there are: made anew by name, and made again from what a checkpoint says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from monai.networks import nets
from torch import Tensor, nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError, build_network, load_weights
from dwp_kedro.networks.unet import UNet3D, require_sides
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.source import new_network


class DynUNet(nets.DynUNet):
    """MONAI's DynUNet (nnU-Net's layout: Isensee et al. 2021), about as large as the paper's U-Net.

    3×3×3 kernels, strides 1, 2, 2, 2, instance norm with affine, transposed convolutions, no deep supervision.
    Input sides are multiples of 8, and at least 16.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, filters: tuple[int, int, int, int] = (16, 32, 48, 72)
    ) -> None:
        super().__init__(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=(3, 3, 3, 3),
            strides=(1, 2, 2, 2),
            upsample_kernel_size=(2, 2, 2),
            filters=tuple(filters),
        )
        # It holds every layer a second time, for TorchScript; each tensor would be in a checkpoint twice.
        del self.skip_layers

    @property
    def arguments(self) -> dict[str, int | list[int]]:
        """The constructor's arguments, as plain JSON values."""
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "filters": list(self.filters),
        }

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, x, y, z) → logits (batch, out_channels, x, y, z).

        Raises:
            ValueError: if a side of the input is not a multiple of 8 or is smaller than 16.
        """
        require_sides(x, "DynUNet")
        skips = [self.input_block(x)]
        for downsample in self.downsamples:
            skips.append(downsample(skips[-1]))
        x = self.bottleneck(skips[-1])
        for upsample, skip in zip(self.upsamples, reversed(skips), strict=True):
            x = upsample(x, skip)
        return self.output_block(x)


_NETWORKS: dict[str, type[UNet3D] | type[DynUNet]] = {"UNet3D": UNet3D, "DynUNet": DynUNet}


def new_architecture(
    name: Literal["unet", "dynunet"],
    in_channels: int,
    out_channels: int,
    channels: tuple[int, int, int, int],
    seed: int,
) -> UNet3D | DynUNet:
    """Return a network with random weights, which depend on ``seed`` alone.

    The U-Net's are He's, the DynUNet's those of MONAI: N(0, 2 / (1.0001·fan_in)), biases 0, norms the identity.
    ``channels`` are the U-Net's widths; the DynUNet has its own.
    """
    if name == "unet":
        return new_network(in_channels, out_channels, channels, seed)
    network = DynUNet(in_channels, out_channels)
    generator = make_generator(seed, "initial weights")
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            # As MONAI's own initialize_weights does, but not from global random numbers; it has set biases to 0.
            nn.init.kaiming_normal_(module.weight, a=0.01, generator=generator)
    return network


def network_arguments(network: nn.Module) -> dict[str, Any]:
    """Return what :func:`rebuild` needs of a network, plain or Bayesian: ``network`` and its ``arguments``."""
    if isinstance(network, BayesianNetwork):
        inner = network_arguments(network.network)
        return {**inner, "network": f"BayesianNetwork({inner['network']})"}
    assert isinstance(network, UNet3D | DynUNet)
    return {"network": type(network).__name__, "arguments": network.arguments}


def rebuild(checkpoint: Checkpoint) -> list[nn.Module]:
    """Make the networks of a cell's checkpoint, plain or Bayesian, with their weights: one per component.

    Its metadata hold ``network`` and ``arguments`` of :func:`network_arguments`, the same for all, and
    ``components``, their number; its weights are ``component_{k}/{name}``.

    Raises:
        CheckpointError: if the metadata name no known network, or the weights do not fit it.
    """
    networks = []
    components = checkpoint.metadata.get("components")
    if not isinstance(components, int) or components < 1:
        raise CheckpointError(
            f"the checkpoint {checkpoint.source} says of its components {components!r}, not how many; give "
            "the checkpoint of a cell of target_evaluation; if it is one, train it anew."
        )
    for k in range(components):
        prefix = f"component_{k}/"
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint.weights.items()
            if name.startswith(prefix)
        }
        source = (
            f"component {k} of the checkpoint of {checkpoint.metadata.get('cell')} {checkpoint.source}".rstrip()
        )
        network = _empty(checkpoint.metadata, weights, source)
        load_weights(network, weights, source)
        networks.append(network)
    return networks


def _empty(metadata: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> nn.Module:
    """Make the network that the metadata describe; its weights are to be loaded."""
    name = str(metadata.get("network"))
    plain = re.sub(r"^BayesianNetwork\((\w+)\)$", r"\1", name)
    if plain not in _NETWORKS:
        raise CheckpointError(
            f"{source} holds the network {name}; known are {', '.join(_NETWORKS)}, "
            "and BayesianNetwork(…) of each. Train it again with this version."
        )
    arguments = metadata.get("arguments")
    if not isinstance(arguments, dict):
        raise CheckpointError(f"{source} says of its network's arguments {arguments!r}. Train it again.")
    network = build_network(lambda: _NETWORKS[plain](**arguments), weights, source)
    if name == plain:
        return network
    groups = kernel_groups(network, network.in_channels)
    return BayesianNetwork(network, groups, {group.name: 1.0 for group in groups})  # σ comes with the weights
