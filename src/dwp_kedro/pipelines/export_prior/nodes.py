"""What is handed over: a prior with a card that people can read, or kernels with a card."""

from __future__ import annotations

import hashlib
from typing import Any

import pandas as pd

from dwp_kedro.bayes.kernel_pool import without_positions
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import pack_prior, unpack_prior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.parameters import CohortParameters, ExportPriorParameters, SourceTrainingParameters
from dwp_kedro.pipelines.core import library_versions
from dwp_kedro.pipelines.export_prior.card import prior_card
from dwp_kedro.pipelines.prior_card import KERNELS_FORMAT, source_facts


def export_prior(prior: Checkpoint, export: ExportPriorParameters) -> Checkpoint:
    """Return the prior as it is handed over: with its source network and posterior, or without.

    Raises:
        CheckpointError: if the source network is wanted and not there.
    """
    unpacked = unpack_prior(prior)
    if not export.source_network:
        return pack_prior(unpacked.without_source())
    if not unpacked.source_network:
        raise CheckpointError(
            "source_network=true, but the prior carries no source network. Learn it with "
            "prior_learning.carry_source_network: true, or export it with source_network=false."
        )
    return pack_prior(unpacked)


def write_card(exported: Checkpoint, content: bytes) -> str:
    """Describe an exported prior in Markdown; ``content`` are the bytes of its file."""
    return prior_card(exported.metadata["card"], hashlib.sha256(content).hexdigest(), len(content))


def export_group(kernels: KernelTensor) -> KernelTensor:
    """Return one group's kernels as they are handed over: without their places in the layers."""
    return without_positions(kernels)


def describe_kernels(
    cohort: CohortParameters, subjects: pd.DataFrame, training: SourceTrainingParameters
) -> dict[str, Any]:
    """Describe the networks that handed over kernels come from, for the card of a prior that learns from them."""
    return {
        "format": KERNELS_FORMAT,
        "source_cohort": source_facts(cohort, subjects, training),
        "versions": library_versions(),
    }
