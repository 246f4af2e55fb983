"""Shape of the source_training pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node, pipeline

from dwp_kedro.pipelines.plan import Plan, bind
from dwp_kedro.pipelines.source_training.nodes import (
    restart_network,
    summarise_networks,
    train_bootstrap_network,
    train_whole_network,
)

_INPUTS = {
    "volumes": "data_processing.source.volumes",
    "subjects": "data_processing.source.subjects",
    "cohort": "params:data_processing.source",
    "training": "params:source_training",
    "network": "params:network",
    "compute": "params:compute",
}


def network_names(plan: Plan) -> list[str]:
    """Names of the networks whose kernels the prior learns from; restarts stand behind their network."""
    names = []
    for index in range(plan.source_training.n_networks):
        names.append(f"network_{index}")
        if plan.source_training.restart:
            names.append(f"network_{index}_restarted")
    return names


def whole_names(plan: Plan) -> list[str]:
    """Names of the networks trained on the whole source set: one per seed, if a method or the prior needs any."""
    starts_from_source = any(method.start == "source" for method in plan.methods.values())
    if starts_from_source:
        return [f"whole_{seed}" for seed in plan.grid.seeds]
    return [f"whole_{plan.grid.seeds[0]}"] if plan.prior_learning.carry_source_network else []


def create_pipeline(plan: Plan) -> Pipeline:
    """Build the pipeline, a namespace per network::

    source volumes ─┬─→ network_0 → network_0_restarted ─┐
                    ├─→ network_1 → network_1_restarted ─┼─→ summary
                    └─→ whole_0 (where pr starts)  ──────┘
    """
    networks = []
    for index in range(plan.source_training.n_networks):
        train = node(bind(train_bootstrap_network, index=index), _INPUTS, _OUTPUTS, name="train")
        networks.append(_instance(train, f"network_{index}"))
        if plan.source_training.restart:
            restart = node(
                bind(restart_network, index=index), {**_INPUTS, "checkpoint": "start"}, _OUTPUTS, name="train"
            )
            start = {"start": f"source_training.network_{index}.checkpoint"}
            networks.append(_instance(restart, f"network_{index}_restarted", start))
    for name in whole_names(plan):
        train = node(
            bind(train_whole_network, seed=int(name.removeprefix("whole_"))), _INPUTS, _OUTPUTS, name="train"
        )
        networks.append(_instance(train, name))
    names = [*network_names(plan), *whole_names(plan)]
    summary = node(
        summarise_networks,
        {name: f"source_training.{name}.metrics" for name in names},
        "source_training.summary",
        name="summarise",
        namespace="source_training",
        tags="summary",
    )
    return pipeline([*networks, pipeline([summary])], tags="source_training")


_OUTPUTS = ["checkpoint", "history", "metrics"]


def _instance(template: Node, name: str, inputs: dict[str, str] | None = None) -> Pipeline:
    shared = {dataset: dataset for dataset in _INPUTS.values() if not dataset.startswith("params:")}
    return pipeline(
        [template],
        namespace=f"source_training.{name}",
        inputs={**shared, **(inputs or {})},
        parameters={value: value for value in _INPUTS.values() if value.startswith("params:")},
        tags="stage.source_network",
    )
