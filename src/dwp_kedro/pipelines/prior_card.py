"""What a prior, or a folder of kernels, says of itself: words, counts and figures; no subject's name, no path."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dwp_kedro.networks.checkpoint import CheckpointError
from dwp_kedro.parameters import CohortParameters, SourceTrainingParameters
from dwp_kedro.pipelines.volumes import channel_count

Count = Annotated[int, Field(ge=1)]


class _Facts(BaseModel):
    """Plain JSON; strict about unknown keys, because what a received card says travels on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, card: Any) -> Self:
        """Take a card from a file.

        Raises:
            CheckpointError: something is missing, unknown or of another kind; the message lists all that is.
        """
        try:
            return cls.model_validate(card)
        except ValidationError as error:
            raise CheckpointError("; ".join(map(_problem, error.errors()))) from error


class SourceFacts(_Facts):
    """A source cohort and its networks."""

    name: str
    description: str
    licence: str
    n_subjects: Count
    channels: Count
    classes: list[str]
    n_networks: Count
    """On bootstrap samples; restarts are not counted."""
    restarted: bool
    l2: float


class KernelsCard(_Facts):
    """What ``export_kernels`` says of a folder of kernels."""

    format: Literal["dwp-kedro kernels 1"]
    source_cohort: SourceFacts
    versions: dict[str, str]


class Architecture(_Facts):
    """The source networks."""

    network: str
    channels: list[Count]


class GroupFigures(_Facts):
    """How well one group's prior describes held-out kernels; densities in nats per kernel of unit spread."""

    heldout_nelbo: float
    heldout_latent_kl: float
    isotropic_gaussian_nll: float
    scale_mixture_nll: float
    gaussian_nll: float
    active_dims: float
    scale: float
    n_kernels: float
    n_heldout_kernels: float
    n_dropped: float
    train_seconds: float


class GroupFacts(_Facts):
    """One kernel group's prior."""

    label: str
    layers: list[str]
    figures: GroupFigures


class PriorCard(_Facts):
    """What a prior's file says of itself."""

    title: str
    architecture: Architecture
    groups: dict[str, GroupFacts]
    source_cohort: SourceFacts
    further_sources: dict[str, SourceFacts]
    n_networks_learnt_from: int
    n_networks_held_out: int
    carries_source_network: bool
    carries_source_posterior: bool
    licence: str
    versions: dict[str, str]

    @property
    def sources(self) -> list[SourceFacts]:
        """Each cohort that the prior was learnt from, the owner's first."""
        return [self.source_cohort, *self.further_sources.values()]


GROUP_FIGURES = {
    "n_kernels": "kernels learnt from",
    "n_heldout_kernels": "held out",
    "heldout_nelbo": "kernel VAE (bound)",
    "scale_mixture_nll": "scale mixture",
    "gaussian_nll": "Gaussian",
    "isotropic_gaussian_nll": "isotropic Gaussian",
    "scale": "scale",
}
"""Headings of the figures that a prior's card has of each kernel group."""


def source_facts(
    cohort: CohortParameters, subjects: pd.DataFrame, training: SourceTrainingParameters
) -> SourceFacts:
    """Return a source cohort and its networks as they may stand on a card."""
    return SourceFacts(
        name=cohort.name,
        description=cohort.description,
        licence=cohort.licence,
        n_subjects=len(subjects),
        channels=channel_count(subjects),
        classes=cohort.class_names,
        n_networks=training.n_networks,
        restarted=training.restart is not None,
        l2=training.l2,
    )


def _problem(details: Any) -> str:
    name = ".".join(map(str, details["loc"])) or "the card"
    if details["type"] == "missing":
        return f"{name} is missing"
    if details["type"] == "extra_forbidden":
        return f"{name} is unknown"
    return f"{name} is {str(details['input'])[:60]!r}: {details['msg']}"
