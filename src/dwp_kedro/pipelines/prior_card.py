"""What a prior says of its sources, in words and counts: no scan, no subject's name, no path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dwp_kedro.parameters import CohortParameters, SourceTrainingParameters
from dwp_kedro.pipelines.volumes import channel_count

KERNELS_FORMAT = "dwp-kedro kernels 1"
"""What the card of a folder of kernels begins with."""

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
) -> dict[str, Any]:
    """Return a source cohort and its networks as they may stand on a card; plain JSON."""
    return {
        "name": cohort.name,
        "description": cohort.description,
        "licence": cohort.licence,
        "n_subjects": len(subjects),
        "channels": channel_count(subjects),
        "classes": cohort.class_names,
        "n_networks": training.n_networks,
        "restarted": training.restart is not None,
        "l2": training.l2,
    }


def all_sources(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the card of a prior says of each cohort that it was learnt from, the owner's first."""
    return [card["source_cohort"], *card["further_sources"].values()]
