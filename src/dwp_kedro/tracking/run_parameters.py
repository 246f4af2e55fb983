"""What a child run is about: its stage, its place in the experiment, and the parameters of its nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kedro.pipeline.node import Node
from pydantic import BaseModel

from dwp_kedro.parameters import MethodParameters, TargetTrainingParameters

STAGE_TAG = "stage."
"""Start of the Kedro tag that gives a node a child run, for example ``stage.grid_cell``."""

GRID_CELL = "grid_cell"

_ABSENT = "-"
_METHOD_RECORD = "params:methods."
_NAMESPACES = tuple(
    re.compile(pattern)
    for pattern in (
        r"target_evaluation\.(?P<method>\w+)\.n(?P<n_train>\d+)_split(?P<split>\d+)_seed(?P<seed>\d+)",
        r"source_training\.network_(?P<bootstrap>\d+)(?P<restarted>_restarted)?",
        r"source_training\.whole_(?P<network>\d+)(_source_posterior)?",
        r"prior_learning\.group_(?P<group>\d+)",
    )
)
_KEYS = ("method", "n_train", "split", "seed", "network", "restarted", "group")


def stage_of(node: Node) -> str | None:
    """Return the stage among the node's tags, or None for a node that belongs to the parent run."""
    return next((tag.removeprefix(STAGE_TAG) for tag in sorted(node.tags) if tag.startswith(STAGE_TAG)), None)


def child_of(node: Node) -> str:
    """Return what a child run gathers its nodes by: their namespace, or a lone node's name."""
    return node.namespace or node.name


def run_name(child: str) -> str:
    """Return the child's name without its pipeline.

    >>> run_name("target_evaluation.dwp.n5_split0_seed0")
    'dwp.n5_split0_seed0'
    """
    return child.split(".", 1)[-1]


def identity(child: str, environment: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the same keys for every child, so that MLflow can compare any of them; '-' for what it lacks.

    ``parameters`` are those of :func:`node_parameters`: a bootstrap network's seed is ``source_training.seed``
    plus its number, before and after its restart.

    >>> identity("source_training.whole_3_source_posterior", "base", {})["network"]
    '3'
    >>> identity("source_training.network_2_restarted", "base", {"source_training.seed": "10"})["seed"]
    '12'
    """
    found = next((match.groupdict() for pattern in _NAMESPACES if (match := pattern.fullmatch(child))), {})
    if "bootstrap" in found:
        found["network"] = found["bootstrap"]
        found["restarted"] = str(found["restarted"] is not None)
        if (first_seed := parameters.get("source_training.seed")) is not None:
            found["seed"] = str(int(first_seed) + int(found["network"]))
    return {**{key: found.get(key, _ABSENT) for key in _KEYS}, "environment": environment}


def node_parameters(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Flatten the ``params:`` inputs of nodes under the last part of their names.

    ``params:target_evaluation.training`` gives ``training.batch_size``, ``training.schedule.kind`` and so on.
    Two inputs with the same last part keep their whole names. A method's record is ``method`` whatever the method
    is called, so that cells of different methods have the same keys. What it sets otherwise than the block
    ``target_training`` takes the block's place, as in the cell, and what does not act on the method is None: runs
    are compared by what they were trained with.
    """
    names = [name for name in inputs if name.startswith("params:")]
    last_parts = [
        "method" if name.startswith(_METHOD_RECORD) else name.rsplit(".", 1)[-1].removeprefix("params:")
        for name in names
    ]
    method = next((inputs[name] for name in names if name.startswith(_METHOD_RECORD)), None)
    flat: dict[str, str] = {}
    for name, last in zip(names, last_parts, strict=True):
        label = last if last_parts.count(last) == 1 else name.removeprefix("params:")
        value = inputs[name]
        if isinstance(value, TargetTrainingParameters) and isinstance(method, MethodParameters):
            value = method.trained_with(value)
        flat.update(_flatten(label, value))
    return flat


def _flatten(label: str, value: Any) -> dict[str, str]:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if not isinstance(value, Mapping):
        return {label: str(value)}
    flat: dict[str, str] = {}
    for part, inner in value.items():
        flat.update(_flatten(f"{label}.{part}", inner))
    return flat
