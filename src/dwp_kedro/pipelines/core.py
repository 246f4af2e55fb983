"""From validated parameters to the core's plain settings, and from its results to tables."""

from __future__ import annotations

import platform

import monai
import nibabel
import pandas as pd
import torch

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


def library_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "dwp_kedro": dwp_kedro.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "nibabel": nibabel.__version__,
    }


def history_table(history: History) -> pd.DataFrame:
    """Curves of a training, a row per epoch."""
    return pd.DataFrame(history.rows)
