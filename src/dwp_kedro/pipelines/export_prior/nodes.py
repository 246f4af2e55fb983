"""What is handed over: a prior with a card that people can read, or kernels with a card."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from dwp_kedro.bayes.kernel_pool import without_positions
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import pack_prior, unpack_prior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.parameters import CohortParameters, ExportPriorParameters, SourceTrainingParameters
from dwp_kedro.pipelines.core import library_versions
from dwp_kedro.pipelines.export_prior.card import card_page
from dwp_kedro.pipelines.prior_card import KernelsCard, PriorCard, source_facts


def export_prior(prior: Checkpoint, export: ExportPriorParameters) -> dict[str, Any]:
    """Return what is handed over, by how its file's name ends.

    These are the prior, with its source network and posterior or without, and what makes its card in Markdown from
    the bytes of its file.

    Raises:
        CheckpointError: if the source network is wanted and not there.
    """
    unpacked = unpack_prior(prior)
    if export.source_network and not unpacked.source_network:
        raise CheckpointError(
            "source_network=true, but the prior carries no source network. Learn it with "
            "prior_learning.carry_source_network: true, or export it with source_network=false."
        )
    exported = unpacked if export.source_network else unpacked.without_source()
    return {"": pack_prior(exported), ".md": partial(card_page, PriorCard.read(exported.card))}


def export_kernels(
    cohort: CohortParameters, subjects: pd.DataFrame, training: SourceTrainingParameters, **groups: KernelTensor
) -> dict[str, Any]:
    """Return what is handed over, by its path within the folder; ``groups`` are one's own kernels, by group.

    These are the kernels of each group, without their places in the layers, and the card of the networks that they
    come from, for the card of a prior that learns from them.
    """
    card = KernelsCard(
        format="dwp-kedro kernels 1",
        source_cohort=source_facts(cohort, subjects, training),
        versions=library_versions(),
    )
    files = {f"/{name}_kernels.safetensors": without_positions(kernels) for name, kernels in groups.items()}
    return {"/card.json": card.model_dump(), **files}
