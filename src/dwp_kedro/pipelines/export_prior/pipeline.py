"""Shape of the pipelines export_prior and export_kernels."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.pipelines.export_prior.nodes import export_kernels, export_prior
from dwp_kedro.pipelines.plan import Plan


def create_pipeline(plan: Plan) -> Pipeline:
    """Build the pipeline that hands over a prior, learnt or received::

    prior → prior with or without a source network (one file), and its card to read
    """
    export = node(
        export_prior,
        [plan.prior_dataset, "params:export_prior"],
        "export_prior.files",
        name="export",
        namespace="export_prior",
    )
    return pipeline([export], tags="export_prior")


def create_kernels_pipeline(groups: Sequence[KernelGroup]) -> Pipeline:
    """Build the pipeline that hands over the kernels of one's own source networks, for others to pool::

    kernels of group_1 … group_7, source cohort in words → one folder with a file per group and a card
    """
    export = node(
        export_kernels,
        {
            "cohort": "params:data_processing.source",
            "subjects": "data_processing.source.subjects",
            "training": "params:source_training",
            **{group.name: f"prior_learning.{group.name}.kernels" for group in groups},
        },
        "export_kernels.files",
        name="export",
        namespace="export_kernels",
    )
    return pipeline([export], tags="export_kernels")
