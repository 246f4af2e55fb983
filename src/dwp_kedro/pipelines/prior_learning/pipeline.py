"""Shape of the prior_learning pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.pipelines.plan import Plan, bind
from dwp_kedro.pipelines.prior_learning.nodes import (
    assemble_prior,
    collect_group,
    draw_kernels,
    learn_group,
    summarise_groups,
)

_PARAMETERS = {
    "learning": "params:prior_learning",
    "training": "params:source_training",
    "compute": "params:compute",
}


def create_pipeline(
    plan: Plan, groups: Sequence[KernelGroup], network_names: Sequence[str], whole_name: str | None
) -> Pipeline:
    """Build the pipeline, a namespace per kernel group::

        source checkpoints ─┬─→ group_1: kernels → VAE, figure ─┐
                            ├─→ …                               ├─→ prior (one file), summary
                            └─→ group_7: kernels → VAE, figure ─┘

    ``network_names`` are the source networks whose kernels are learnt, ``whole_name`` the one to carry along.
    """
    checkpoints = {name: f"source_training.{name}.checkpoint" for name in network_names}
    instances = []
    for group in groups:
        template = [
            node(bind(collect_group, group=group), checkpoints, "kernels", name="collect"),
            node(
                bind(learn_group, group=group),
                {"kernels": "kernels", **_PARAMETERS},
                ["checkpoint", "history", "metrics"],
                name="learn",
            ),
            node(
                bind(draw_kernels, group=group),
                {"kernels": "kernels", "checkpoint": "checkpoint"},
                "figure",
                name="draw",
            ),
        ]
        instances.append(
            pipeline(
                template,
                namespace=f"prior_learning.{group.name}",
                inputs={dataset: dataset for dataset in checkpoints.values()},
                parameters={value: value for value in _PARAMETERS.values()},
                tags="stage.kernel_vae",
            )
        )
    carried = {"source_network": f"source_training.{whole_name}.checkpoint"} if whole_name else {}
    shared = [
        node(
            assemble_prior,
            {
                "cohort": "params:data_processing.source",
                "subjects": "data_processing.source.subjects",
                "training": "params:source_training",
                "learning": "params:prior_learning",
                "network": "params:network",
                **carried,
                **{group.name: f"prior_learning.{group.name}.checkpoint" for group in groups},
            },
            "prior_learning.prior",
            name="assemble",
            namespace="prior_learning",
            tags="summary",
        ),
        node(
            summarise_groups,
            {group.name: f"prior_learning.{group.name}.metrics" for group in groups},
            "prior_learning.summary",
            name="summarise",
            namespace="prior_learning",
            tags="summary",
        ),
    ]
    return pipeline([*instances, pipeline(shared)], tags="prior_learning")
