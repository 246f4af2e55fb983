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

from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import (
    GridParameters,
    MethodParameters,
    PriorLearningParameters,
    SourceTrainingParameters,
)
from dwp_kedro.parameters.check import (
    ParameterError,
    ParameterProblem,
    did_you_mean,
    find_problems,
    list_problems,
)
from dwp_kedro.parameters.files import EnvironmentFiles

_PROJECT = Path(__file__).parents[3]
_LEARNT = "learnt"


@dataclass(frozen=True)
class Plan:
    """The parameters that decide which nodes there are."""

    grid: GridParameters
    methods: dict[str, MethodParameters]
    source_training: SourceTrainingParameters
    prior_learning: PriorLearningParameters
    prior: str = _LEARNT
    """``learnt``, or the path of a colleague's prior file."""

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], place: Callable[..., str] = lambda path: "") -> Plan:
        """Take the plan from a dictionary of parameter blocks.

        Raises:
            ValidationError: a block is wrong by itself.
            ParameterError: blocks contradict each other; ``place`` says in which file each of them stands.
        """
        grid = GridParameters.model_validate(parameters["grid"])
        plan = cls(
            grid,
            {
                name: MethodParameters.model_validate(parameters["methods"][name])
                for name in grid.methods
                if name in parameters["methods"]
            },
            SourceTrainingParameters.model_validate(parameters["source_training"]),
            PriorLearningParameters.model_validate(parameters["prior_learning"]),
            parameters.get("prior", _LEARNT),
        )
        conflicts = [
            ParameterProblem(
                ("grid", "methods"), f"names {name}; {did_you_mean(name, list(parameters['methods']))}"
            )
            for name in grid.methods
            if name not in parameters["methods"]
        ]
        conflicts += plan.find_conflicts()
        if conflicts:
            raise ParameterError(list_problems(conflicts, place))
        return plan

    @property
    def receives_prior(self) -> bool:
        """Whether the prior is a colleague's file, and there is no source cohort here."""
        return self.prior != _LEARNT

    @property
    def prior_dataset(self) -> str:
        """Name of the dataset that the prior is read from."""
        return "received_prior" if self.receives_prior else "prior_learning.prior"

    @property
    def needs_source(self) -> bool:
        """Whether any method takes anything from the source."""
        return any(m.start != "he" or m.priors for m in self.methods.values())

    @property
    def needs_source_networks(self) -> bool:
        """Whether any method takes a source network or its posterior."""
        return any(m.start == "source" or "source_posterior" in m.priors for m in self.methods.values())

    def source_networks(self, split: int, components: int) -> list[str]:
        """Names of the source networks that a draw of the training volumes starts from, one per component."""
        return [f"whole_{(split + k) % self.source_training.n_whole}" for k in range(components)]

    def find_conflicts(self) -> list[ParameterProblem]:
        """Return what can only fail after hours, or before them in a way that nobody understands."""
        problems = []
        layers = [name for name, _ in UNet3D().named_children()]
        for name, method in self.methods.items():
            strangers = [layer for layer in method.trained_layers or [] if layer not in layers]
            if strangers:
                text = f"names {', '.join(strangers)}; the network's top-level layers are {', '.join(layers)}"
                problems.append(ParameterProblem(("methods", name, "trained_layers"), text))
        if self.receives_prior:
            if not str(self.prior).endswith(".safetensors"):
                text = f"is {self.prior!r}: set it to learnt or to the path of a prior file, NAME.safetensors"
                problems.append(ParameterProblem(("prior",), text))
            return problems
        for name, method in self.methods.items():
            if "source_posterior" in method.priors and self.source_training.snapshots is None:
                text = (
                    "is source_posterior, which is made from snapshots of a source network: set "
                    "source_training.snapshots"
                )
                problems.append(ParameterProblem(("methods", name, "prior"), text))
            n_whole = self.source_training.n_whole
            if method.start == "source" and method.components > n_whole:
                text = (
                    f"is {method.components}, each to start from a source network of its own, and "
                    f"source_training.n_whole is {n_whole}: raise the second or lower the first"
                )
                problems.append(ParameterProblem(("methods", name, "components"), text))
        n_networks, heldout = self.source_training.n_networks, self.prior_learning.heldout_networks
        if n_networks <= heldout:
            text = (
                f"is {n_networks} and prior_learning.heldout_networks {heldout}: no network is left to learn a "
                "prior from; raise the first or lower the second"
            )
            problems.append(ParameterProblem(("source_training", "n_networks"), text))
        return problems


class PlanHook:
    """Hands the parameters of the session's environment to the registry, and its folder to the configuration."""

    plan: Plan | None = None
    project_path = _PROJECT

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Check all parameters, and remember the plan; ``context.params`` would already load the pipelines.

        Raises:
            ParameterError: parameters are wrong; the message lists all of them.
        """
        PlanHook.project_path = Path(context.project_path)
        files = EnvironmentFiles(context.config_loader, settings.CONFIG_LOADER_ARGS, PlanHook.project_path)
        parameters = files.parameters()
        problems = [*files.find_misplaced(), *find_problems(parameters, files.no_parameters())]
        if problems:
            raise ParameterError(list_problems(problems, files.place))
        _check_environment(context.env, parameters["environment"])
        PlanHook.plan = Plan.from_parameters(parameters, files.place)
        context.config_loader["parameters"] = parameters  # as all that follows reads them


def project_path(path: str) -> str:
    """Resolve ``${project_path:PATH}``: relative to the project, wherever kedro is called from."""
    return str(PlanHook.project_path / path)


def _check_environment(run: str | None, written: str) -> None:
    """Refuse an environment that would write into another one's folders.

    Raises:
        ParameterError: if ``globals.yml`` of the environment that runs names another one.
    """
    if run not in (None, "base", "local", written):
        raise ParameterError(
            f"--env {run} would write into the folders of '{written}'. "
            f"Put `environment: {run}` into conf/{run}/globals.yml."
        )


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
