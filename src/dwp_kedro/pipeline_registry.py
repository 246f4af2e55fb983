"""The project's pipelines, built from the parameters of the environment that runs."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines import data_processing, prior_learning, source_training, target_evaluation
from dwp_kedro.pipelines.plan import current_plan


def register_pipelines() -> dict[str, Pipeline]:
    """Return the four pipelines by name, and as ``__default__`` the sum of those that a run needs.

    These are all four, but with a received prior only the first and the last.
    """
    plan = current_plan()
    whole = source_training.whole_names(plan)
    pipelines = {
        "data_processing": data_processing.create_pipeline(plan),
        "source_training": source_training.create_pipeline(plan),
        "prior_learning": prior_learning.create_pipeline(
            plan,
            kernel_groups(UNet3D(), in_channels=1),
            source_training.network_names(plan),
            whole[0] if plan.prior_learning.carry_source_network else None,
        ),
        "target_evaluation": target_evaluation.create_pipeline(plan),
    }
    needed = ("data_processing", "target_evaluation") if plan.grid.prior == "received" else tuple(pipelines)
    return {**pipelines, "__default__": sum((pipelines[name] for name in needed), Pipeline([]))}
