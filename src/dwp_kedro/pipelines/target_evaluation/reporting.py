"""The node that writes the report."""

from __future__ import annotations

from collections.abc import Mapping

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
    environment: str,
    command: str,
    prior: Checkpoint | None = None,
    **kernels: KernelTensor,
) -> str:
    """Write everything into one HTML page that opens from disk; ``kernels`` are the source's, by group."""
    received = None if prior is None else unpack_prior(prior)
    card = {} if received is None else received.card
    source = card.get(
        "source_cohort", {"name": "nothing", "description": "no method takes anything from a source"}
    )
    figures_of_groups = {name: group["figures"] for name, group in card.get("groups", {}).items()}
    facts = {
        "Source": {"cohort": source["name"], "description": source["description"]},
        "Target": {
            "cohort": cohort.name,
            "description": cohort.description,
            "subjects": str(len(manifest)),
            "network grid": "×".join(map(str, cohort.preprocessing.grid or ("each volume's own",))),
            "voxel size": "unknown: distances and volumes are in voxels"
            if cohort.spacing == "unknown"
            else "from the scans, in mm",
        },
        "Experiment": {
            "environment": environment,
            "methods": ", ".join(grid.methods),
            "training volumes": ", ".join(map(str, grid.n_train)),
            **_design(grid),
            "augmentation": "none" if training.augmentation is None else "on, the same for all methods",
            "temperature": f"{training.temperature:g}",
            "estimator of the data term": training.estimator.replace("_", " "),
            "share of kernels per step": f"{training.kernel_fraction:g}",
        },
    }
    further_tables = {
        "Uncertainty, mean over draws (calibration error: 0 is best; area under the ROC: 1; rank correlation with "
        "the DSC: −1)": uncertainty_summary
    }
    if figures_of_groups:
        further_tables["Priors on held-out networks, nats per kernel"] = pd.DataFrame(figures_of_groups).T
    return build_report(
        title=f"Deep weight prior transfer: {source['name']} → {cohort.name}",
        scores=scores,
        reference=grid.reference_method,
        facts=facts,
        command=command,
        figures={
            "Test DSC by number of training volumes; bars: 95 % interval over draws, points: draws": size_figure,
            "Test DSC of every subject, averaged over draws": distribution_figure,
            f"Every test subject under {grid.reference_method} and under each other method, averaged over draws; "
            f"above the line {grid.reference_method} is better": pairs_figure,
            "Best, median and worst subject": segmentation_figure,
            "Can the network's own certainty be trusted?": trust_figure,
            "Training curves; bold: mean over draws, thin: single cells": curves_figure,
            **({} if received is None else _kernel_figures(received, kernels)),
        },
        timings=timings,
        versions=library_versions(),
        notice=_notice(cohort, grid),
        further_tables=further_tables,
    )


def _kernel_figures(prior: NetworkPrior, kernels: Mapping[str, KernelTensor]) -> dict[str, Figure]:
    """Draw samples of every group's prior (the paper's Fig. 5), beside kernels of source networks if there are."""
    figures = {}
    for name, group in prior.groups.items():
        generator = make_generator(0, f"kernels of {name} in the report")
        panels = {}
        if name in kernels:
            source = kernels[name].kernels
            panels["source kernels"] = source[torch.randperm(len(source), generator=generator)[:_SHOWN]].numpy()
        panels["prior samples"] = group.sample(_SHOWN, generator).view(-1, 3, 3, 3).numpy()
        label = prior.card["groups"][name]["label"]
        figures[f"Kernels of {name}: {label}"] = kernel_panels(panels, f"{name}: {label}")
    return figures


def _design(grid: GridParameters) -> dict[str, str]:
    """Say in words how often is trained and on whom is tested."""
    sizes_by_draws: dict[int, list[int]] = {}
    for n_train in grid.n_train:
        sizes_by_draws.setdefault(grid.splits_of(n_train), []).append(n_train)
    draws = [
        str(count) if len(sizes_by_draws) == 1 else f"{count} at n = {', '.join(map(str, sizes))}"
        for count, sizes in sizes_by_draws.items()
    ]
    if grid.scored_on == "set_aside":
        tested = f"{len(set(grid.set_aside))} set aside for choosing recipes"
    elif isinstance(grid.test_set, list):
        tested = f"{len(set(grid.test_set))}, the same in all draws, fixed by name"
    else:
        tested = f"{grid.n_test}, {'the same in all draws' if grid.test_set == 'fixed' else 'new in every draw'}"
    return {
        "draws (splits)": "; ".join(draws),
        "seeds of a draw": "its own" if grid.seeds == "per_split" else ", ".join(map(str, grid.seeds)),
        "test subjects": tested,
    }


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
