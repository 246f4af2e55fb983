"""Training of a target network under a prior (Kuzina et al. 2019, Algorithms 1 to 3), and of one without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dwp_kedro.bayes.elbo import kl_bound, warmed_up
from dwp_kedro.bayes.groups import KernelGroup, kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.training.losses import dice_cross_entropy
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.segmentation import SegmentationObjective, batch_dice


@dataclass(frozen=True)
class Method:
    """Whether the deep weight prior acts, and which top-level layers train (None: all)."""

    prior: Literal["none", "deep_weight_prior"]
    trained_layers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PosteriorSettings:
    """How the posterior starts and how its objective is estimated; see :class:`PosteriorObjective`."""

    temperature: float = 0.1
    warm_up_steps: int = 0
    estimator: Literal["weight_samples", "local_reparameterisation"] = "local_reparameterisation"
    initial_sigma: float = 0.1
    kernel_fraction: float = 0.05
    train_encoder: bool = True


class PosteriorObjective(Objective):
    """loss = data term + temperature · KL / (N·V); see :mod:`dwp_kedro.bayes.elbo` for its derivation.

    Args:
        posterior: the Bayesian network; its means and log-variances train.
        priors: by group name; their decoders are fixed, their encoders may train.
        settings: temperature, estimators.
        dice_weight: of the data term.
        n_volumes: N, the number of training volumes.
    """

    def __init__(
        self,
        posterior: BayesianNetwork,
        priors: Mapping[str, DeepWeightPrior],
        settings: PosteriorSettings,
        dice_weight: float,
        n_volumes: int,
    ) -> None:
        super().__init__()
        self.posterior, self.priors = posterior, nn.ModuleDict(priors)
        self.posterior_settings, self.dice_weight, self.n_volumes = settings, dice_weight, n_volumes
        for prior in priors.values():
            prior.freeze(settings.train_encoder)

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
        temperature = warmed_up(self.posterior_settings.temperature, step, self.posterior_settings.warm_up_steps)
        with torch.autocast(images.device.type, enabled=False):
            kl = kl_bound(self.posterior, self._priors(), generator, self.posterior_settings.kernel_fraction)
        loss = data_term + temperature * kl / (self.n_volumes * labels[0].numel())
        return {
            "loss": loss,
            "data_term": data_term.detach(),
            "kl": kl.detach(),
            "train_dsc": batch_dice(logits, labels),
        }

    def _priors(self) -> dict[str, DeepWeightPrior]:
        return {name: prior for name, prior in self.priors.items() if isinstance(prior, DeepWeightPrior)}


@torch.no_grad()
def draw_from_priors(
    network: nn.Module, groups: Sequence[KernelGroup], priors: Mapping[str, DeepWeightPrior], seed: int
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
    network: UNet3D,
    method: Method,
    priors: Mapping[str, DeepWeightPrior],
    settings: PosteriorSettings,
    dice_weight: float,
    n_volumes: int,
) -> tuple[Objective, nn.Module]:
    """Return the objective of a method and the network inside it, which a training moves.

    Without a prior that network is the given one; with one it is a posterior whose means start there.
    """
    if method.prior == "none":
        restrict_training(network, method.trained_layers)
        return SegmentationObjective(network, dice_weight), network
    groups = kernel_groups(network, network.in_channels)
    posterior = make_posterior(network, groups, priors, settings.initial_sigma)
    restrict_training(posterior.network, method.trained_layers)
    return PosteriorObjective(posterior, priors, settings, dice_weight, n_volumes), posterior


def make_posterior(
    network: nn.Module,
    groups: Sequence[KernelGroup],
    priors: Mapping[str, DeepWeightPrior],
    initial_sigma: float,
) -> BayesianNetwork:
    """Return a posterior around ``network``, σ = ``initial_sigma`` times each group's scale.

    Raises:
        ValueError: if a group has no prior; the message names the groups.
    """
    missing = [f"{group.name} ({group.label})" for group in groups if group.name not in priors]
    if missing:
        raise ValueError(f"the prior does not fit the network: no prior for {', '.join(missing)}")
    sigmas = {group.name: initial_sigma * priors[group.name].scale for group in groups}
    return BayesianNetwork(network, groups, sigmas)
