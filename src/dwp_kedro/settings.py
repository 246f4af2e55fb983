"""Project settings of Kedro."""

import os
import warnings

from dwp_kedro.hooks import HOOKS as _HOOKS
from dwp_kedro.pipelines.plan import PlanHook, project_path
from dwp_kedro.pipelines.prediction.scans_check import NewScansHook
from dwp_kedro.pipelines.prior_learning.kernel_check import KernelFitHook
from dwp_kedro.pipelines.target_evaluation.prior_check import PriorFitHook

# Nodes over several namespaces name their datasets in full. Kedro warns of that at every command.
warnings.filterwarnings("ignore", message="One or more dataset names contain '.'", category=UserWarning)


def _environment_variable(name: str, default: str) -> str:
    """Resolve ``${environment_variable:NAME,default}`` in the configuration."""
    return os.environ.get(name) or default


HOOKS = (PlanHook(), PriorFitHook(), KernelFitHook(), NewScansHook(), *_HOOKS)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"parameters": ["parameters*", "parameters*/**", "**/parameters*"]},
    "custom_resolvers": {"environment_variable": _environment_variable, "project_path": project_path},
}
