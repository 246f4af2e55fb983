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
    gather_sources,
    learn_group,
    summarise_groups,
)

_PARAMETERS = {"learning": "params:prior_learning", "compute": "params:compute"}


def create_pipeline(
    plan: Plan, groups: Sequence[KernelGroup], network_names: Sequence[str], whole_name: str | None
) -> Pipeline:
    """Build the pipeline, a namespace per kernel group::

        source checkpoints ─┬─→ group_1: kernels → VAE, figure ─┐
                            ├─→ …                               ├─→ prior (one file), summary
                            └─→ group_7: kernels → VAE, figure ─┘

    ``network_names`` are the source networks whose kernels are learnt, ``whole_name`` the one to carry along,
    together with its posterior where snapshots are taken. Kernels of further sources come as files, which their
    owners' ``export_kernels`` wrote, and are pooled with the own ones where a group is learnt.
    """
    checkpoints = {name: f"source_training.{name}.checkpoint" for name in network_names}
    sources = plan.prior_learning.further_sources
    instances = []
    for group in groups:
        further = {f"from_{source}": f"received_kernels.{source}.{group.name}" for source in sources}
        template = [
            node(bind(collect_group, group=group), checkpoints, "kernels", name="collect"),
            node(
                bind(learn_group, group=group),
                {"kernels": "kernels", **further, **_PARAMETERS},
                ["checkpoint", "history", "metrics"],
                name="learn",
            ),
            node(
                bind(draw_kernels, group=group),
                {"kernels": "kernels", "checkpoint": "checkpoint", **further},
                "figure",
                name="draw",
            ),
        ]
        instances.append(
            pipeline(
                template,
                namespace=f"prior_learning.{group.name}",
                inputs={dataset: dataset for dataset in (*checkpoints.values(), *further.values())},
                parameters={value: value for value in _PARAMETERS.values()},
                tags="stage.kernel_vae",
            )
        )
    carried = {"source_network": f"source_training.{whole_name}.checkpoint"} if whole_name else {}
    if whole_name and plan.source_training.snapshots is not None:
        carried["source_posterior"] = f"source_training.{whole_name}.source_posterior"
    gathering = [
        node(
            gather_sources,
            {source: f"received_kernels.{source}.card" for source in sources},
            "prior_learning.further_sources",
            name="gather_sources",
            namespace="prior_learning",
            tags="summary",
        )
    ]
    shared = [
        *(gathering if sources else []),
        node(
            assemble_prior,
            {
                "cohort": "params:data_processing.source",
                "subjects": "data_processing.source.subjects",
                "training": "params:source_training",
                "learning": "params:prior_learning",
                "network": "params:network",
                **({"further_sources": "prior_learning.further_sources"} if sources else {}),
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
