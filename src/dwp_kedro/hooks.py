"""The hooks of every run, in Kedro's order: the last one registered is called first."""

from __future__ import annotations

from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from dwp_kedro.tracking.checkpoint_hook import CheckpointHook
from dwp_kedro.tracking.cohort_hook import CohortHook
from dwp_kedro.tracking.lineage_hook import LineageHook, OutOfDateError
from dwp_kedro.tracking.mlflow_hook import MlflowHook
from dwp_kedro.tracking.output_hook import OutputHook, ReadOnlyOutputError
from dwp_kedro.tracking.summary_hook import SummaryHook
from dwp_kedro.tracking.terminal_hook import TerminalHook
from dwp_kedro.tracking.terminal_result_hook import ResultHook
from dwp_kedro.tracking.this_run_hook import ThisRunHook
from dwp_kedro.tracking.upstream_hook import MissingUpstreamError, UpstreamHook

__all__ = [
    "HOOKS",
    "CheckpointHook",
    "CohortHook",
    "LineageHook",
    "MissingUpstreamError",
    "MlflowHook",
    "OutOfDateError",
    "OutputHook",
    "ReadOnlyOutputError",
    "ResultHook",
    "SummaryHook",
    "TerminalHook",
    "ThisRunHook",
    "UpstreamHook",
]


def _everything() -> Pipeline:
    """Return all that an experiment consists of."""
    return pipelines["__default__"]


HOOKS = (
    CohortHook(),
    MlflowHook(),
    ResultHook(),  # Both speak last, the later one after the other.
    SummaryHook(),
    TerminalHook(),
    UpstreamHook(),
    OutputHook(),
    LineageHook(_everything),
    CheckpointHook(),
    ThisRunHook(),
)
