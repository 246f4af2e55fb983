"""Shape of the pipelines export_prior and export_kernels."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.pipelines.export_prior.nodes import (
    describe_kernels,
    export_group,
    export_prior,
    write_card,
)
from dwp_kedro.pipelines.plan import Plan


def create_pipeline(plan: Plan) -> Pipeline:
    """Build the pipeline that hands over a prior, learnt or received::

    prior → prior with or without a source network (one file) → card to read
    """
    return pipeline(
        [
            node(
                export_prior,
                [plan.prior_dataset, "params:export_prior"],
                "export_prior.prior@checkpoint",
                name="export",
                namespace="export_prior",
            ),
            node(
                write_card,
                ["export_prior.prior@checkpoint", "export_prior.prior@bytes"],
                "export_prior.card",
                name="write_card",
                namespace="export_prior",
            ),
        ],
        tags="export_prior",
    )


def create_kernels_pipeline(groups: Sequence[KernelGroup]) -> Pipeline:
    """Build the pipeline that hands over the kernels of one's own source networks, for others to pool::

    kernels of group_1 … group_7, source cohort in words → one folder with a file per group and a card
    """
    card = node(
        describe_kernels,
        ["params:data_processing.source", "data_processing.source.subjects", "params:source_training"],
        "export_kernels.card",
        name="describe",
        namespace="export_kernels",
    )
    exports = [
        node(
            export_group,
            f"prior_learning.{group.name}.kernels",
            f"export_kernels.{group.name}",
            name=f"export_{group.name}",
            namespace="export_kernels",
        )
        for group in groups
    ]
    return pipeline([*exports, card], tags="export_kernels")
