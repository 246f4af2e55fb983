"""The prior of a whole network: one deep weight prior per kernel group, a card, and what it may carry along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError, load_weights
from dwp_kedro.networks.kernel_vae import KernelVAE

FORMAT = "dwp-kedro prior 1"


@dataclass
class NetworkPrior:
    """Priors by group name, and the card that says what they are for and what they come from.

    ``source_network`` holds the weights of one network trained on the whole source set, or nothing.
    """

    groups: dict[str, DeepWeightPrior]
    card: dict[str, Any]
    source_network: Mapping[str, Tensor] = field(default_factory=dict)

    def require_source_network(self, method: str) -> dict[str, Tensor]:
        """Return the carried source network's weights.

        Raises:
            CheckpointError: if the prior carries none; the message names ``method``, which needs one.
        """
        if not self.source_network:
            raise CheckpointError(
                f"method '{method}' starts from a source network, and this prior carries none. Ask for a prior "
                "made with prior_learning.carry_source_network: true, or leave the method out of grid.methods."
            )
        return dict(self.source_network)


def pack_prior(prior: NetworkPrior) -> Checkpoint:
    """Turn a prior into the tensors and the JSON of its one file."""
    weights = {
        f"{group}/{name}": tensor.detach().clone()
        for group, group_prior in prior.groups.items()
        for name, tensor in group_prior.vae.state_dict().items()
    }
    weights |= {f"source_network/{name}": tensor for name, tensor in prior.source_network.items()}
    vaes = {
        name: {"latent_dim": p.vae.latent_dim, "literal_heads": p.vae.literal_heads, "scale": p.scale}
        for name, p in prior.groups.items()
    }
    return Checkpoint(weights, {"format": FORMAT, "kernel_vaes": vaes, "card": prior.card})


def unpack_prior(checkpoint: Checkpoint) -> NetworkPrior:
    """Build a fresh prior, which shares no tensor with ``checkpoint``.

    Raises:
        CheckpointError: if the file is no prior, or a group's weights do not fit its VAE.
    """
    if checkpoint.metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"this file is not a prior (its format is {checkpoint.metadata.get('format')!r}, not {FORMAT!r}). "
            "Name the file that `kedro run --pipeline prior_learning` wrote."
        )
    groups = {}
    for name, arguments in checkpoint.metadata["kernel_vaes"].items():
        vae = KernelVAE(arguments["latent_dim"], arguments["literal_heads"])
        load_weights(vae, _part(checkpoint.weights, f"{name}/"), f"the prior's {name}")
        groups[name] = DeepWeightPrior(vae, arguments["scale"])
    source_network = {k: v.clone() for k, v in _part(checkpoint.weights, "source_network/").items()}
    return NetworkPrior(groups, checkpoint.metadata["card"], source_network)


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
