"""From validated parameters to the core's plain settings, and from its results to tables."""

from __future__ import annotations

import logging
import platform
from importlib.metadata import version

import pandas as pd

import dwp_kedro
from dwp_kedro.parameters import ComputeParameters, ScheduleParameters
from dwp_kedro.training.loop import History
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.target import LEAST_TRAIN_DSC

_logger = logging.getLogger(__name__)

FINDS_NOTHING = 0.01
"""DSC on its own training volumes below which a network has learnt nothing."""


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


def warn_of_collapse(history: History, label: str) -> None:
    """Warn of a training that ended in a network that finds nothing, not even where it was trained.

    With a loss that is nearly all Dice this happens now and then, and the scores would not say why they are 0. Of
    networks side by side the worst in each batch is looked at, which the mean hides.
    """
    last = history.rows[-1]
    curve = LEAST_TRAIN_DSC if LEAST_TRAIN_DSC in last else "train_dsc"
    dsc = last[curve]
    if dsc < FINDS_NOTHING:
        _logger.warning(
            "%s: the training ended in a network that finds next to nothing on its training volumes (DSC %.3f). "
            "Its scores stay in the tables and may decide a mean: look at its curve %s. More steps, a lower "
            "learning rate or gradient_norm may mend it; change them for all methods.",
            label,
            dsc,
            curve,
        )
