"""The project's pipelines, built from the parameters of the environment that runs."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines import (
    data_processing,
    export_prior,
    prediction,
    prior_learning,
    source_training,
    target_evaluation,
)
from dwp_kedro.pipelines.plan import current_plan

_EXPERIMENT = ("data_processing", "source_training", "prior_learning", "target_evaluation")
_UNDER_A_RECEIVED_PRIOR = ("data_processing", "target_evaluation")


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name, and as ``__default__`` the sum of those that an experiment needs.

    These are the first four, but with a received prior only the first and the last of them; the others come after.
    """
    plan = current_plan()
    whole = source_training.whole_names(plan)
    groups = kernel_groups(UNet3D(), in_channels=1)
    pipelines = {
        "data_processing": data_processing.create_pipeline(plan),
        "source_training": source_training.create_pipeline(plan),
        "prior_learning": prior_learning.create_pipeline(
            plan,
            groups,
            source_training.network_names(plan),
            whole[0] if plan.prior_learning.carry_source_network else None,
        ),
        "target_evaluation": target_evaluation.create_pipeline(plan),
        "prediction": prediction.create_pipeline(),
        "export_prior": export_prior.create_pipeline(plan),
        "export_kernels": export_prior.create_kernels_pipeline(groups),
    }
    needed = _UNDER_A_RECEIVED_PRIOR if plan.receives_prior else _EXPERIMENT
    return {**pipelines, "__default__": sum((pipelines[name] for name in needed), Pipeline([]))}
