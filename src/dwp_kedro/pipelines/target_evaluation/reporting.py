"""The node that writes the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
from matplotlib.figure import Figure

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import NetworkPrior, unpack_prior
from dwp_kedro.evaluation.figures import kernel_panels
from dwp_kedro.evaluation.report import build_report
from dwp_kedro.lineage.declare import depends_on
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import CohortParameters, GridParameters, TargetTrainingParameters
from dwp_kedro.pipelines.core import library_versions
from dwp_kedro.pipelines.prior_card import GROUP_FIGURES, PriorCard
from dwp_kedro.pipelines.target_evaluation.cell import Cell
from dwp_kedro.pipelines.target_evaluation.report_facts import (
    computing_facts,
    experiment_facts,
    method_facts,
    prior_facts,
    run_facts,
    source_blocks,
    target_facts,
)
from dwp_kedro.training.seeds import make_generator

_SHOWN = 12  # kernels of a group


@depends_on(cohort=lambda cohort: [cohort, cohort.description])
def write_report(
    scores: pd.DataFrame,
    timings: pd.DataFrame,
    size_figure: go.Figure,
    distribution_figure: go.Figure,
    pairs_figure: go.Figure,
    curves_figure: go.Figure,
    segmentation_figure: Figure,
    trust_figure: go.Figure,
    uncertainty_summary: pd.DataFrame,
    manifest: pd.DataFrame,
    cohort: CohortParameters,
    grid: GridParameters,
    training: TargetTrainingParameters,
    methods: Mapping[str, Any],
    environment: str,
    this_run: Mapping[str, str],
    cell: Cell,
    prior: Checkpoint | None = None,
    **kernels: KernelTensor,
) -> str:
    """Write everything into one HTML page that opens from disk.

    ``cell`` says which train size, draw and seed the segmentations are of. ``kernels`` are those of the own source
    networks, by group.
    """
    used = None if prior is None else unpack_prior(prior)
    card = None if used is None else PriorCard.read(used.card)
    sources = [] if card is None else card.sources
    names = ", ".join(source.name for source in sources)
    return build_report(
        title=f"Deep weight prior transfer: {names or 'nothing'} → {cohort.name}",
        scores=scores,
        reference=grid.reference_method,
        facts={
            **source_blocks(sources),
            **({} if card is None else {"Prior": prior_facts(card, this_run)}),
            "Target": target_facts(cohort, manifest),
            "Experiment": experiment_facts(environment, grid, training),
            "Methods": method_facts(grid, methods, training),
        },
        command=this_run["command"],
        restricted_by=this_run["restricted by"],
        figures={
            "Test DSC by number of training volumes; bars: 95 % interval over draws, points: draws": size_figure,
            "Test DSC of every subject, averaged over draws": distribution_figure,
            f"Every test subject under {grid.reference_method} and under each other method, averaged over draws; "
            f"above the line {grid.reference_method} is better": pairs_figure,
            f"Best, median and worst test subject by the mean DSC over methods, with n = {cell.n_train} training "
            f"volumes (draw {cell.split}, seed {cell.seed}); yellow: the truth": segmentation_figure,
            "Can the network's own certainty be trusted?": trust_figure,
            "Training curves; bold: mean over draws, thin: single cells": curves_figure,
            **({} if used is None or card is None else _kernel_figures(used, card, kernels)),
        },
        timings=timings,
        uncertainty=uncertainty_summary,
        prior=None if card is None else _group_figures(card),
        circumstances={
            "Run": run_facts(this_run),
            "Hardware": computing_facts(timings),
            "Versions": library_versions(),
        },
        notice=_notice(cohort, grid),
    )


def _kernel_figures(
    prior: NetworkPrior, card: PriorCard, kernels: Mapping[str, KernelTensor]
) -> dict[str, Figure]:
    """Draw samples of every group's prior (the paper's Fig. 5), beside kernels of own source networks if known."""
    sources = ", ".join(source.name for source in card.sources)
    figures = {}
    for name, group in prior.groups.items():
        generator = make_generator(0, f"kernels of {name} in the report")
        label = card.groups[name].label
        panels, caption = {}, f"Kernels of {name} ({label}): "
        if name in kernels:
            source = kernels[name].kernels
            chosen = source[torch.randperm(len(source), generator=generator)[:_SHOWN]]
            panels["kernels of source networks"] = chosen.numpy()
            caption += f"left, of networks trained on {card.source_cohort.name}; right, "
        panels["samples of the prior"] = group.sample(_SHOWN, generator).view(-1, 3, 3, 3).numpy()
        figures[f"{caption}drawn from the prior, which was learnt from {sources}"] = kernel_panels(
            panels, f"{name}: {label}"
        )
    return figures


def _group_figures(card: PriorCard) -> pd.DataFrame:
    headings = {**GROUP_FIGURES, "train_seconds": "training of the VAE, s"}
    rows = {
        name: {"place": group.label, **{text: getattr(group.figures, key) for key, text in headings.items()}}
        for name, group in card.groups.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="group")


def _notice(cohort: CohortParameters, grid: GridParameters) -> str | None:
    """Return what must be said before any result, if anything must."""
    if cohort.reader.layout == "phantom":
        return "A demonstration on made-up scans. No figure on this page is evidence for anything."
    if grid.scored_on == "set_aside":
        return (
            "Scored on the subjects that recipes are chosen on, not on the test set. What was chosen by these "
            "figures looks better in them than it is."
        )
    return None
