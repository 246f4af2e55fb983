"""What the pipelines are built from: the parameters of the environment that runs.

Kedro builds the registry without telling it the environment. A hook hands the environment's parameters over
before that; where there is no session (``kedro registry list``), those of the default environment are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings

from dwp_kedro.parameters import (
    GridParameters,
    MethodParameters,
    PriorLearningParameters,
    SourceTrainingParameters,
)

_PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Plan:
    """The parameters that decide which nodes there are."""

    grid: GridParameters
    methods: dict[str, MethodParameters]
    source_training: SourceTrainingParameters
    prior_learning: PriorLearningParameters

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Plan:
        """Validate the blocks of a parameters dictionary."""
        grid = GridParameters.model_validate(parameters["grid"])
        unknown = [name for name in grid.methods if name not in parameters["methods"]]
        if unknown:
            raise ValueError(
                f"grid.methods names {', '.join(unknown)}; the block 'methods' of the parameters "
                f"has {', '.join(parameters['methods'])}"
            )
        return cls(
            grid,
            {name: MethodParameters.model_validate(parameters["methods"][name]) for name in grid.methods},
            SourceTrainingParameters.model_validate(parameters["source_training"]),
            PriorLearningParameters.model_validate(parameters["prior_learning"]),
        )


class PlanHook:
    """Hands the parameters of the session's environment to the registry."""

    plan: Plan | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Remember the plan; ``context.params`` would already load the pipelines."""
        PlanHook.plan = Plan.from_parameters(context.config_loader["parameters"])


def current_plan() -> Plan:
    """Return the plan of the running session, or else of the default environment."""
    if PlanHook.plan is not None:
        return PlanHook.plan
    loader = OmegaConfigLoader(
        str(_PROJECT / settings.CONF_SOURCE),
        env=os.environ.get("KEDRO_ENV"),
        **settings.CONFIG_LOADER_ARGS,
    )
    return Plan.from_parameters(loader["parameters"])


def bind(function: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
    """Fix some arguments of a node's function and keep its name, type hints and docstring."""
    return update_wrapper(partial(function, **arguments), function)
