"""The prior of a whole network, as one file: priors per kernel group, a card, and what it may carry along."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dwp_kedro.bayes.control_priors import FittedDensity, GaussianPrior, ScaleMixturePrior
from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError, build_network, load_weights
from dwp_kedro.networks.kernel_vae import KernelVAE

FORMAT = "dwp-kedro prior 2"
_ASK = "Name a file that the pipeline prior_learning or export_prior of this version wrote."
_CONTROLS: dict[str, type[ScaleMixturePrior | GaussianPrior]] = {
    "scale_mixture": ScaleMixturePrior,
    "gaussian": GaussianPrior,
}


@dataclass
class NetworkPrior:
    """Priors by group name, and the card that says what they are for and what they come from.

    Attributes:
        groups: the deep weight priors.
        card: plain JSON.
        controls: by kind (``scale_mixture``, ``gaussian``), then by group: densities fitted to the same kernels.
        source_network: weights of one network trained on the whole source set, or nothing.
        source_posterior: weights of that network's
            :class:`~dwp_kedro.bayes.source_posterior.SourcePosterior`, or nothing.
    """

    groups: dict[str, DeepWeightPrior]
    card: dict[str, Any]
    controls: dict[str, dict[str, FittedDensity]] = field(default_factory=dict)
    source_network: Mapping[str, Tensor] = field(default_factory=dict)
    source_posterior: Mapping[str, Tensor] = field(default_factory=dict)

    def require_source_network(self, method: str) -> dict[str, Tensor]:
        """Return the carried source network's weights.

        Raises:
            CheckpointError: if the prior carries none; the message names ``method``, which needs one.
        """
        if not self.source_network:
            raise CheckpointError(
                f"method '{method}' starts from a source network, and this prior carries none. Ask for a prior "
                "made with prior_learning.carry_source_network: true and exported with source_network=true, or "
                "leave the method out of grid.methods."
            )
        return dict(self.source_network)

    def require_same_places(self, groups: Sequence[KernelGroup]) -> None:
        """Refuse groups that lie elsewhere in the network than those the priors were learnt from.

        Widths do not matter: a prior is of one kernel.

        Raises:
            CheckpointError: the message names every group that has no prior, or one learnt in another place.
        """
        places = {name: facts["label"] for name, facts in self.card["groups"].items()}
        problems = [
            f"{group.name}: {places.get(group.name, 'nothing')} in the file, {group.label} in the network"
            for group in groups
            if places.get(group.name) != group.label
        ]
        if problems:
            raise CheckpointError("the kernel groups differ: " + "; ".join(problems))

    def without_source(self) -> NetworkPrior:
        """Return a prior that carries neither a source network nor a source posterior; groups are shared."""
        card = {**self.card, "carries_source_network": False, "carries_source_posterior": False}
        return replace(self, card=card, source_network={}, source_posterior={})


def pack_prior(prior: NetworkPrior) -> Checkpoint:
    """Turn a prior into the tensors and the JSON of its one file."""
    weights = {
        f"{group}/{name}": tensor.detach().clone()
        for group, group_prior in prior.groups.items()
        for name, tensor in group_prior.vae.state_dict().items()
    }
    weights |= {
        f"controls/{kind}/{group}/{name}": tensor.clone()
        for kind, densities in prior.controls.items()
        for group, density in densities.items()
        for name, tensor in density.state_dict().items()
    }
    weights |= {f"source_network/{name}": tensor for name, tensor in prior.source_network.items()}
    weights |= {f"source_posterior/{name}": tensor for name, tensor in prior.source_posterior.items()}
    vaes = {
        name: {"latent_dim": p.vae.latent_dim, "literal_heads": p.vae.literal_heads, "scale": p.scale}
        for name, p in prior.groups.items()
    }
    scales = {kind: {name: p.scale for name, p in densities.items()} for kind, densities in prior.controls.items()}
    return Checkpoint(
        weights, {"format": FORMAT, "kernel_vaes": vaes, "control_scales": scales, "card": prior.card}
    )


def unpack_prior(checkpoint: Checkpoint) -> NetworkPrior:
    """Build a fresh prior, which shares no tensor with ``checkpoint``.

    Raises:
        CheckpointError: if the file is no prior of this format, its metadata are not such a prior's, or weights
            do not fit or are NaN or infinite.
    """
    weights, metadata = checkpoint.weights, checkpoint.metadata
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"this file is not a prior that can be read here (its format is {metadata.get('format')!r}, not "
            f"{FORMAT!r}). {_ASK}"
        )
    missing = sorted({"kernel_vaes", "control_scales", "card"} - metadata.keys())
    if missing:
        raise CheckpointError(f"this file's metadata lack {', '.join(missing)}: ask for it, or learn it, again.")
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"this file holds NaN or infinite numbers, in {name}. {_ASK}")
    try:
        groups = {name: _group(name, weights, given) for name, given in metadata["kernel_vaes"].items()}
        controls = {
            kind: {group: _control(kind, group, weights, scale) for group, scale in scales.items()}
            for kind, scales in metadata["control_scales"].items()
        }
        card = {**metadata["card"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"this file is no prior: its metadata lack something or have something else in its place ({error!r}). "
            f"{_ASK}"
        ) from error
    source_network, source_posterior = (_copied(weights, f"source_{of}/") for of in ("network", "posterior"))
    return NetworkPrior(groups, card, controls, source_network, source_posterior)


def _group(name: str, weights: Mapping[str, Tensor], given: Mapping[str, Any]) -> DeepWeightPrior:
    tensors, source = _part(weights, f"{name}/"), f"the prior's {name}"
    vae = build_network(lambda: KernelVAE(given["latent_dim"], given["literal_heads"]), tensors, source)
    load_weights(vae, tensors, source)
    scale = given["scale"]
    if not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise TypeError(f"the scale of {name} is {scale!r}")
    return DeepWeightPrior(vae, scale)


def _control(kind: str, group: str, weights: Mapping[str, Tensor], scale: float) -> FittedDensity:
    tensors = _part(weights, f"controls/{kind}/{group}/")
    try:
        density = _CONTROLS[kind](**tensors, scale=scale)
        density.log_prob(torch.zeros(1, 27))  # fails where shapes or types are others
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the prior's {kind} of {group} cannot be built from {', '.join(tensors) or 'nothing'} ({error}). "
            f"{_ASK}"
        ) from error
    return density


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _copied(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _part(weights, prefix).items()}
