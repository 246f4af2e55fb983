"""Shape of the target_evaluation pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import GridParameters
from dwp_kedro.pipelines.plan import Plan, bind
from dwp_kedro.pipelines.target_evaluation.cell import Cell, train_cell
from dwp_kedro.pipelines.target_evaluation.nodes import (
    collect_scores,
    collect_timings,
    collect_uncertainty,
    draw_curves,
    draw_scores,
    draw_segmentations,
    summarise,
    summarise_uncertainties,
)
from dwp_kedro.pipelines.target_evaluation.reporting import write_report
from dwp_kedro.pipelines.target_evaluation.scoring import predict_cell, score_predictions

_VOLUMES = "data_processing.target.volumes"
_SUBJECTS = "data_processing.target.subjects"
_MANIFEST = "data_processing.target.manifest"
_SPLITS = "data_processing.splits"
_COHORT = "params:data_processing.target"


def grid_cells(grid: GridParameters) -> list[Cell]:
    """All cells: methods × train sizes × splits × seeds."""
    return [
        Cell(method, n_train, split, seed)
        for method in grid.methods
        for n_train in grid.n_train
        for split in range(grid.splits_of(n_train))
        for seed in grid.seeds_of(split)
    ]


def create_pipeline(plan: Plan) -> Pipeline:
    """Build the pipeline, a namespace per method and within it one per cell::

    prior, source network ─┐
    target volumes, splits ┴→ dwp.n5_split0_seed0: train → checkpoint → predict → score ─┐
                              …                                                          ├→ tables, figures,
                              ri.n20_split2_seed0: train → checkpoint → predict → score ─┘  report
    """
    cells = grid_cells(plan.grid)
    return pipeline(
        [*(_cell_pipeline(cell, plan) for cell in cells), _summary(cells, plan)], tags="target_evaluation"
    )


def _cell_pipeline(cell: Cell, plan: Plan) -> Pipeline:
    method = plan.methods[cell.method]
    starts = {}
    if plan.receives_prior:
        if method.start != "he" or set(method.priors) - {"standard_normal"}:
            starts["prior"] = plan.prior_dataset  # which carries what is needed, or is refused
    else:
        if method.start == "prior" or set(method.priors) - {"source_posterior", "standard_normal"}:
            starts["prior"] = plan.prior_dataset
        for k, network in enumerate(plan.source_networks(cell.split, method.components)):
            if method.start == "source":
                starts[f"source_network_{k}"] = f"source_training.{network}.checkpoint"
            if "source_posterior" in method.priors:
                starts[f"source_posterior_{k}"] = f"source_training.{network}.source_posterior"
    shared = {"volumes": _VOLUMES, "cohort": _COHORT}
    train = node(
        bind(train_cell, cell=cell),
        {
            **shared,
            **starts,
            "splits": _SPLITS,
            "subjects": _SUBJECTS,
            "method": f"params:methods.{cell.method}",
            "training": "params:target_training",
            "network": "params:network",
            "compute": "params:compute",
        },
        ["checkpoint", "history"],
        name="train",
    )
    predict = node(
        bind(predict_cell, cell=cell),
        {
            **shared,
            "checkpoint": "checkpoint",
            "splits": _SPLITS,
            "manifest": _MANIFEST,
            "grid": "params:grid",
            "prediction": "params:prediction",
            "compute": "params:compute",
        },
        ["predictions", "own_grid_predictions", "uncertainty", "predicted"],
        name="predict",
    )
    score = node(
        bind(score_predictions, cell=cell),
        {
            **shared,
            "predictions": "predictions",
            "own_grid_predictions": "own_grid_predictions",
            "predicted": "predicted",
            "manifest": _MANIFEST,
            "checkpoint": "checkpoint",
        },
        ["scores", "metrics"],
        name="score",
    )
    template = Pipeline([train, predict, score])
    outside = template.inputs()
    return pipeline(
        template,
        namespace=f"target_evaluation.{cell.name}",
        inputs={name: name for name in outside if not name.startswith("params:")},
        parameters={name: name for name in outside if name.startswith("params:")},
        tags=[
            "stage.grid_cell",
            cell.method,
            f"n{cell.n_train}",
            f"split{cell.split}",
            f"seed{cell.seed}",
        ],
    )


def _summary(cells: list[Cell], plan: Plan) -> Pipeline:
    def of_cells(artefact: str) -> dict[str, str]:
        return {
            f"{c.method}__{c.n_train}__{c.split}__{c.seed}": f"target_evaluation.{c.name}.{artefact}"
            for c in cells
        }

    shown = max((c for c in cells if c.split == 0), key=lambda c: (c.n_train, -c.seed))
    predictions = {
        f"predictions_{c.method}": f"target_evaluation.{c.name}.predictions"
        for c in cells
        if (c.n_train, c.split, c.seed) == (shown.n_train, shown.split, shown.seed)
    }
    here = "target_evaluation"
    return pipeline(
        [
            node(collect_scores, of_cells("scores"), f"{here}.scores", name="collect_scores", namespace=here),
            node(
                collect_timings,
                of_cells("metrics"),
                f"{here}.timings",
                name="collect_timings",
                namespace=here,
            ),
            node(
                summarise,
                [f"{here}.scores", "params:grid"],
                [
                    f"{here}.{name}"
                    for name in ("summary_dsc", "summary_iou", "summary_hd95", "comparison", "metrics")
                ],
                name="summarise",
                namespace=here,
            ),
            node(
                draw_scores,
                [f"{here}.scores", "params:grid"],
                [f"{here}.figure_train_size", f"{here}.figure_distribution", f"{here}.figure_pairs"],
                name="draw_scores",
                namespace=here,
            ),
            node(
                collect_uncertainty,
                of_cells("uncertainty"),
                f"{here}.uncertainty",
                name="collect_uncertainty",
                namespace=here,
            ),
            node(
                summarise_uncertainties,
                [f"{here}.uncertainty", "params:grid", "params:methods", "params:target_training"],
                [f"{here}.summary_uncertainty", f"{here}.figure_uncertainty"],
                name="summarise_uncertainty",
                namespace=here,
            ),
            node(draw_curves, of_cells("history"), f"{here}.figure_curves", name="draw_curves", namespace=here),
            node(
                bind(draw_segmentations, cell=shown),
                {"scores": f"{here}.scores", "volumes": _VOLUMES, "cohort": _COHORT, **predictions},
                [f"{here}.figure_segmentations", f"{here}.drawn_segmentations"],
                name="draw_segmentations",
                namespace=here,
            ),
            node(
                bind(write_report, cell=shown),
                {
                    "scores": f"{here}.scores",
                    "timings": f"{here}.timings",
                    **_of_prior(plan),
                    "size_figure": f"{here}.figure_train_size",
                    "distribution_figure": f"{here}.figure_distribution",
                    "pairs_figure": f"{here}.figure_pairs",
                    "curves_figure": f"{here}.figure_curves",
                    "segmentation_figure": f"{here}.drawn_segmentations",
                    "trust_figure": f"{here}.figure_uncertainty",
                    "uncertainty_summary": f"{here}.summary_uncertainty",
                    "manifest": _MANIFEST,
                    "cohort": _COHORT,
                    "grid": "params:grid",
                    "training": "params:target_training",
                    "methods": "params:methods",
                    "environment": "params:environment",
                    "this_run": "this_run",
                },
                f"{here}.report",
                name="write_report",
                namespace=here,
            ),
        ],
        tags="summary",
    )


def _of_prior(plan: Plan) -> dict[str, str]:
    """Return what the report shows of the prior: its file, and where it was learnt here the source kernels."""
    if not plan.needs_source:
        return {}
    if plan.receives_prior:
        return {"prior": plan.prior_dataset}
    groups = kernel_groups(UNet3D(), in_channels=1)
    return {
        "prior": plan.prior_dataset,
        **{group.name: f"prior_learning.{group.name}.kernels" for group in groups},
    }
