"""Shape of the source_training pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node, pipeline

from dwp_kedro.pipelines.plan import Plan, bind
from dwp_kedro.pipelines.source_training.nodes import (
    summarise_networks,
    take_snapshots,
    train_network,
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
    """Names of the networks on the whole source set: all if a method needs one, one if only the prior does."""
    learning, n_whole = plan.prior_learning, plan.source_training.n_whole
    needed = n_whole if plan.needs_source_networks else int(learning.carry_source_network)
    return [f"whole_{index}" for index in range(needed)]


def create_pipeline(plan: Plan) -> Pipeline:
    """Build the pipeline, a namespace per network::

    source volumes ─┬─→ network_0 → network_0_restarted ──────────────┐
                    ├─→ network_1 → network_1_restarted ──────────────┼─→ summary
                    └─→ whole_0 (where pr starts) → its snapshots ────┘
    """
    networks = []
    for index in range(plan.source_training.n_networks):
        bootstrap = bind(train_network, index=index, sample="bootstrap")
        train = node(bootstrap, _INPUTS, _OUTPUTS, name="train")
        networks.append(_instance(train, f"network_{index}"))
        if plan.source_training.restart:
            restart = node(bootstrap, {**_INPUTS, "checkpoint": "start"}, _OUTPUTS, name="train")
            start = {"start": f"source_training.network_{index}.checkpoint"}
            networks.append(_instance(restart, f"network_{index}_restarted", start))
    described = []
    for index, name in enumerate(whole_names(plan)):
        train = node(bind(train_network, index=index, sample="whole"), _INPUTS, _OUTPUTS, name="train")
        networks.append(_instance(train, name))
        if plan.source_training.snapshots:
            posterior = f"source_training.{name}.source_posterior"
            snapshots = node(
                bind(take_snapshots, index=index),
                {**_INPUTS, "checkpoint": "start"},
                ["source_posterior", "history", "metrics"],
                name="take_snapshots",
            )
            start = {"start": f"source_training.{name}.checkpoint"}
            described.append(f"{name}_source_posterior")
            networks.append(_instance(snapshots, described[-1], start, {"source_posterior": posterior}))
    names = [*network_names(plan), *whole_names(plan), *described]
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


def _instance(
    template: Node, name: str, inputs: dict[str, str] | None = None, outputs: dict[str, str] | None = None
) -> Pipeline:
    shared = {dataset: dataset for dataset in _INPUTS.values() if not dataset.startswith("params:")}
    return pipeline(
        [template],
        namespace=f"source_training.{name}",
        inputs={**shared, **(inputs or {})},
        outputs=outputs,
        parameters={value: value for value in _INPUTS.values() if value.startswith("params:")},
        tags="stage.source_network",
    )
