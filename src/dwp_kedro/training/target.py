"""Training of a target network under a prior (Kuzina et al. 2019, Algorithms 1 to 3), and of one without."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dwp_kedro.bayes.control_priors import StandardNormalPrior
from dwp_kedro.bayes.elbo import kl_bound, warmed_up
from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.network_prior import NetworkPrior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import (
    DeepWeightPrior,
    KernelPrior,
    KernelwisePrior,
    ProductOfExperts,
    WeightPrior,
    require_groups,
)
from dwp_kedro.bayes.source_posterior import SourcePosterior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.training.losses import dice_cross_entropy
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.segmentation import SegmentationObjective, batch_dice


@dataclass(frozen=True)
class Method:
    """Which priors act (none: a plain network), and which top-level layers train (None: all)."""

    priors: tuple[str, ...] = ()
    trained_layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PosteriorSettings:
    """How the posterior starts and how its objective is estimated; see :class:`PosteriorObjective`.

    ``initial_sigma`` is the posterior's σ at the start, as a fraction of the root mean square of the starting
    network's kernels of that group. Adam moves a log-variance by about the learning rate in a step at most, as it
    does a mean; where the rates sum to 0.1, σ changes by about a twentieth. ``log_variance_rate`` is the
    log-variances' learning rate as a multiple of the schedule's.
    """

    temperature: float = 0.1
    warm_up_steps: int = 0
    estimator: Literal["weight_samples", "local_reparameterisation"] = "weight_samples"
    initial_sigma: float = 0.1
    log_variance_rate: float = 1.0
    kernel_fraction: float = 0.02
    train_encoder: bool = True
    source_scale: float = 1.0


class PosteriorObjective(Objective):
    """loss = data term + temperature · KL / (N·V); see :mod:`dwp_kedro.bayes.elbo` for its derivation.

    At temperature 0, a control, the prior is left out: no KL is computed, and none is among the terms.

    Args:
        posterior: the Bayesian network; its means and log-variances train.
        prior: of its 3×3×3 kernels. It is fixed, but for the encoders of deep weight priors, which may train.
        settings: temperature, estimators.
        dice_weight: of the data term.
        n_volumes: N, the number of training volumes.

    Raises:
        ValueError: if the prior does not fit the posterior; the message names groups or layers.
    """

    def __init__(
        self,
        posterior: BayesianNetwork,
        prior: WeightPrior,
        settings: PosteriorSettings,
        dice_weight: float,
        n_volumes: int,
    ) -> None:
        super().__init__()
        prior.require_fit(posterior)
        prior.requires_grad_(False)
        for module in prior.modules():
            if isinstance(module, DeepWeightPrior):
                module.freeze(settings.train_encoder)
        self.posterior = posterior
        self.prior: WeightPrior | None = prior if settings.temperature > 0 else None
        self.posterior_settings, self.dice_weight, self.n_volumes = settings, dice_weight, n_volumes

    def rates(self) -> dict[str, float]:
        """Log-variances have a rate of their own."""
        rate = self.posterior_settings.log_variance_rate
        return {name: rate for name, _ in self.named_parameters() if name.endswith("raw_log_variance")}

    def settings(self) -> dict[str, Any]:
        """Temperature, estimators, weight of the Dice term, number of volumes."""
        return {**asdict(self.posterior_settings), "dice_weight": self.dice_weight, "n_volumes": self.n_volumes}

    def forward(self, *batch: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Take images (batch, channels, x, y, z) and labels (batch, x, y, z)."""
        images, labels = batch
        noisy = (
            self.posterior.weight_sample(generator)
            if self.posterior_settings.estimator == "weight_samples"
            else self.posterior.local_reparameterisation(generator)
        )
        with noisy:
            logits = self.posterior(images)
        data_term = dice_cross_entropy(logits.float(), labels, self.dice_weight)
        terms = {"loss": data_term, "data_term": data_term.detach(), "train_dsc": batch_dice(logits, labels)}
        terms["log_variance"] = self.posterior.mean_log_variance()
        if self.prior is None:
            return terms
        with torch.autocast(images.device.type, enabled=False):
            kl = kl_bound(self.posterior, self.prior, generator)
        temperature = warmed_up(self.posterior_settings.temperature, step, self.posterior_settings.warm_up_steps)
        loss = data_term + temperature * kl / (self.n_volumes * labels[0].numel())
        return {**terms, "loss": loss, "kl": kl.detach()}


LEAST_TRAIN_DSC = "least_train_dsc"
"""Of networks side by side, ``train_dsc`` of the worst, batch by batch."""


class MixtureObjective(Objective):
    """Objectives of networks that train side by side on the same batches: a mixture posterior, or an ensemble.

    The loss is the sum of theirs, so that each gets the gradients it would get alone. But a training's
    ``gradient_norm`` bounds the norm over all networks together, and so scales them all alike. The other terms are
    means, and beside them is ``least_train_dsc``, because a mean hides a network that finds nothing.
    Both terms of a posterior's objective are convex in q, so their mean over components bounds the mixture's.
    """

    def __init__(self, components: Sequence[Objective]) -> None:
        super().__init__()
        self.components = nn.ModuleList(components)

    def rates(self) -> dict[str, float]:
        """Those of every component."""
        return {
            f"components.{k}.{name}": rate
            for k, component in enumerate(self._components())
            for name, rate in component.rates().items()
        }

    def settings(self) -> dict[str, Any]:
        """Those of every component."""
        return {"components": [component.settings() for component in self._components()]}

    def forward(self, *batch: Tensor, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Take what the components take; each draws noise of its own."""
        each = [component(*batch, step=step, generator=generator) for component in self._components()]
        together = {name: torch.stack([terms[name] for terms in each]) for name in each[0]}
        means = {name: values.mean() for name, values in together.items() if name != "loss"}
        return {"loss": together["loss"].sum(), **means, LEAST_TRAIN_DSC: together["train_dsc"].min()}

    def _components(self) -> list[Objective]:
        return [component for component in self.components if isinstance(component, Objective)]


@torch.no_grad()
def draw_from_priors(
    network: nn.Module, groups: Sequence[KernelGroup], priors: Mapping[str, KernelPrior], seed: int
) -> None:
    """Replace every 3×3×3 kernel by a sample of its group's prior, in place."""
    generator = make_generator(seed, "prior samples")
    for group in groups:
        for name in group.layers:
            weight = network.get_submodule(name).get_parameter("weight")
            count = weight.shape[0] * weight.shape[1]
            weight.copy_(priors[group.name].sample(count, generator).view_as(weight))


def restrict_training(network: nn.Module, trained_layers: Sequence[str] | None) -> None:
    """Let only the named top-level layers train; None: all.

    Raises:
        ValueError: if a name is no top-level layer; the message lists those that are.
    """
    if trained_layers is None:
        return
    layers = dict(network.named_children())
    unknown = [name for name in trained_layers if name not in layers]
    if unknown:
        raise ValueError(f"trained_layers names {', '.join(unknown)}; the network has {', '.join(layers)}")
    for name, layer in layers.items():
        layer.requires_grad_(name in trained_layers)


def make_objective(
    network: nn.Module,
    groups: Sequence[KernelGroup],
    method: Method,
    prior: WeightPrior | None,
    scales: Mapping[str, float],
    settings: PosteriorSettings,
    dice_weight: float,
    n_volumes: int,
) -> tuple[Objective, nn.Module]:
    """Return the objective of a method and the network inside it, which a training moves.

    Without a prior that network is the given one; with one it is a posterior whose means start there.

    Args:
        network: where the training starts.
        groups: its kernel groups; only a method with priors needs them.
        method: which priors act, which layers train.
        prior: from :func:`make_prior`; None for a method without.
        scales: root mean square of ``network``'s kernels by group, from :func:`initial_scales`; the posterior's σ
            starts at ``settings.initial_sigma`` times its group's.
        settings: of the posterior.
        dice_weight: of the data term.
        n_volumes: N, the number of training volumes.

    Raises:
        ValueError: if the prior does not fit the network, or a trained layer is none of its layers.
    """
    if not method.priors:
        restrict_training(network, method.trained_layers)
        return SegmentationObjective(network, dice_weight), network
    if prior is None:
        raise ValueError(f"a method under {', '.join(method.priors)} needs a prior: make_prior gives it")
    posterior = BayesianNetwork(network, groups, {name: settings.initial_sigma * s for name, s in scales.items()})
    restrict_training(posterior.network, method.trained_layers)
    return PosteriorObjective(posterior, prior, settings, dice_weight, n_volumes), posterior


def initial_scales(network: nn.Module, groups: Sequence[KernelGroup]) -> dict[str, float]:
    """Root mean square of the weights of a network's kernels, by group."""
    scales = {}
    for group in groups:
        weights = [network.get_submodule(name).get_parameter("weight").flatten() for name in group.layers]
        scales[group.name] = torch.cat(weights).square().mean().sqrt().item()
    return scales


def make_prior(
    names: Sequence[str],
    network_prior: NetworkPrior | None,
    source_posterior: Checkpoint | None,
    settings: PosteriorSettings,
    groups: Sequence[KernelGroup],
) -> WeightPrior | None:
    """Build the prior of a method: one by name, or several as an unnormalised product; None without a name.

    Args:
        names: ``deep_weight_prior``, ``scale_mixture``, ``gaussian``, ``standard_normal``, ``source_posterior``.
        network_prior: what the first three are taken from.
        source_posterior: what the last is made from; None: from the one that ``network_prior`` carries.
        settings: share of the kernels, scale of the source posterior.
        groups: kernel groups of the network to train.

    Raises:
        CheckpointError: if what a name needs is not there; the message says what to do.
    """
    experts: list[WeightPrior] = []
    for name in names:
        if name == "source_posterior":
            experts.append(_source_posterior(network_prior, source_posterior, settings, groups))
        else:
            # A copy, because the encoders train: networks side by side do not share them.
            priors = copy.deepcopy(dict(kernel_priors(name, network_prior, groups)))
            experts.append(KernelwisePrior(priors, settings.kernel_fraction))
    if len(experts) > 1:
        return ProductOfExperts(experts)
    return experts[0] if experts else None


def _source_posterior(
    network_prior: NetworkPrior | None,
    source_posterior: Checkpoint | None,
    settings: PosteriorSettings,
    groups: Sequence[KernelGroup],
) -> SourcePosterior:
    if source_posterior is None and network_prior is not None and network_prior.source_posterior:
        source_posterior = Checkpoint(dict(network_prior.source_posterior), {})
    if source_posterior is None:
        raise CheckpointError(
            "the prior source_posterior needs snapshots of a source network, and there are none. Set "
            "source_training.snapshots; or ask for a prior made with them and with "
            "prior_learning.carry_source_network: true."
        )
    layers = [layer for group in groups for layer in group.layers]
    return SourcePosterior.from_checkpoint(source_posterior, layers, settings.source_scale)


def kernel_priors(
    name: str, network_prior: NetworkPrior | None, groups: Sequence[KernelGroup]
) -> Mapping[str, KernelPrior]:
    """Return the priors of the kernel groups by name of their kind, see :func:`make_prior`.

    Raises:
        CheckpointError: if the kind needs a prior file that is not there, or is not in it.
        ValueError: if a group has no prior of the kind; the message names the groups.
    """
    if name == "standard_normal":
        return {group.name: StandardNormalPrior() for group in groups}
    if network_prior is None:
        raise CheckpointError(f"the prior {name} is learnt from source networks, and no prior file is given")
    known: dict[str, Mapping[str, KernelPrior]] = {
        "deep_weight_prior": network_prior.groups,
        **network_prior.controls,
    }
    if name not in known:
        raise CheckpointError(f"there is no {name} in the prior file, which has {', '.join(known)}")
    require_groups(known[name].keys(), groups)
    return known[name]
