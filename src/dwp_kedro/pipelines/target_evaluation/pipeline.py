"""Shape of the target_evaluation pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.parameters import GridParameters
from dwp_kedro.pipelines.plan import Plan, bind
from dwp_kedro.pipelines.target_evaluation.cell import Cell, predict_cell, score_predictions, train_cell
from dwp_kedro.pipelines.target_evaluation.nodes import (
    collect_scores,
    collect_timings,
    draw_curves,
    draw_scores,
    draw_segmentations,
    summarise,
    write_report,
)

_VOLUMES = "data_processing.target.volumes"
_SUBJECTS = "data_processing.target.subjects"
_MANIFEST = "data_processing.target.manifest"
_SPLITS = "data_processing.splits"
_COHORT = "params:data_processing.target"
_PRIORS = {"learnt": "prior_learning.prior", "received": "target_evaluation.received_prior"}


def grid_cells(grid: GridParameters) -> list[Cell]:
    """All cells: methods × train sizes × splits × seeds."""
    return [
        Cell(method, n_train, split, seed)
        for method in grid.methods
        for n_train in grid.n_train
        for split in range(grid.n_splits)
        for seed in grid.seeds
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
    if method.start == "prior" or method.prior != "none":
        starts["prior"] = _PRIORS[plan.grid.prior]
    if method.start == "source" and plan.grid.prior == "learnt":
        starts["source_network"] = f"source_training.whole_{cell.seed}.checkpoint"
    elif method.start == "source":
        starts["prior"] = _PRIORS["received"]  # which carries the source network, or is refused
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
            "prediction": "params:prediction",
            "compute": "params:compute",
        },
        ["predictions", "own_grid_predictions", "predicted"],
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
                f"{here}.scores",
                [
                    f"{here}.{name}"
                    for name in ("summary_dsc", "summary_iou", "summary_hd95", "wilcoxon", "metrics")
                ],
                name="summarise",
                namespace=here,
            ),
            node(
                draw_scores,
                f"{here}.scores",
                [f"{here}.figure_train_size", f"{here}.figure_distribution"],
                name="draw_scores",
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
                write_report,
                {
                    "scores": f"{here}.scores",
                    "timings": f"{here}.timings",
                    **({"prior": _PRIORS[plan.grid.prior]} if plan.needs_prior else {}),
                    "size_figure": f"{here}.figure_train_size",
                    "distribution_figure": f"{here}.figure_distribution",
                    "curves_figure": f"{here}.figure_curves",
                    "segmentation_figure": f"{here}.drawn_segmentations",
                    "manifest": _MANIFEST,
                    "cohort": _COHORT,
                    "grid": "params:grid",
                    "training": "params:target_training",
                    "environment": "params:environment",
                    "command": "params:command",
                },
                f"{here}.report",
                name="write_report",
                namespace=here,
            ),
        ],
        tags="summary",
    )
