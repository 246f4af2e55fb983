"""Copies of the project in which tests run it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def copy_of_project(folder: Path) -> Path:
    """Copy what Kedro needs to run the project, settings and code, without anybody's data or secrets."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
    for name in ("conf", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=unwanted)
    (folder / "conf" / "local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that would lead a run out of its folder."""
    leading_out = {"MLFLOW_TRACKING_URI", "DWP_DATA_ROOT", "KEDRO_ENV", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in leading_out}
    return {**kept, "COLUMNS": "200"}
