"""From validated parameters to the core's plain settings, and from its results to tables."""

from __future__ import annotations

import platform
from importlib.metadata import version

import pandas as pd

import dwp_kedro
from dwp_kedro.parameters import ComputeParameters, ScheduleParameters
from dwp_kedro.training.loop import History
from dwp_kedro.training.settings import Compute, Schedule


def compute_settings(compute: ComputeParameters) -> Compute:
    """Return the core's settings of where to train."""
    return Compute(**compute.model_dump())


def schedule_settings(schedule: ScheduleParameters) -> Schedule:
    """Return the core's settings of a schedule."""
    return Schedule(**schedule.model_dump())


_LIBRARIES = ("torch", "lightning", "monai", "nibabel", "kedro", "mlflow")


def library_versions() -> dict[str, str]:
    """Versions that a result depends on, or that what it was made with does."""
    return {
        "dwp_kedro": dwp_kedro.__version__,
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES},
    }


def history_table(history: History) -> pd.DataFrame:
    """Curves of a training, a row per epoch."""
    return pd.DataFrame(history.rows)
