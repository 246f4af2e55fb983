"""The prior of a whole network, as one file: priors per kernel group, a card, and what it may carry along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from dwp_kedro.bayes.control_priors import FittedDensity, GaussianPrior, ScaleMixturePrior
from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError, load_weights
from dwp_kedro.networks.kernel_vae import KernelVAE

FORMAT = "dwp-kedro prior 2"
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
        CheckpointError: if the file is no prior of this format, or a group's weights do not fit.
    """
    weights, metadata = checkpoint.weights, checkpoint.metadata
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"this file is not a prior that can be read here (its format is {metadata.get('format')!r}, not "
            f"{FORMAT!r}). Name a file that the pipeline prior_learning or export_prior of this version wrote."
        )
    missing = sorted({"kernel_vaes", "control_scales", "card"} - metadata.keys())
    if missing:
        raise CheckpointError(f"this file's metadata lack {', '.join(missing)}: ask for it, or learn it, again.")
    groups = {}
    for name, arguments in metadata["kernel_vaes"].items():
        vae = KernelVAE(arguments["latent_dim"], arguments["literal_heads"])
        load_weights(vae, _part(weights, f"{name}/"), f"the prior's {name}")
        groups[name] = DeepWeightPrior(vae, arguments["scale"])
    controls = {
        kind: {group: _control(kind, group, weights, scale) for group, scale in scales.items()}
        for kind, scales in metadata["control_scales"].items()
    }
    return NetworkPrior(
        groups,
        metadata["card"],
        controls,
        _copied(weights, "source_network/"),
        _copied(weights, "source_posterior/"),
    )


def _control(kind: str, group: str, weights: Mapping[str, Tensor], scale: float) -> FittedDensity:
    tensors = _part(weights, f"controls/{kind}/{group}/")
    try:
        return _CONTROLS[kind](**tensors, scale=scale)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"the prior's {kind} of {group} cannot be built from {', '.join(tensors) or 'nothing'} ({error}). "
            "Name a file that the pipeline prior_learning or export_prior of this version wrote."
        ) from error


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _copied(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _part(weights, prefix).items()}
