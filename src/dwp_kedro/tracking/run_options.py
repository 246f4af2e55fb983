"""The options of a run that other commands need too, to see the same data, prior and parameters."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from dwp_kedro.tracking.command import environment_option

_OF_ONE_PIPELINE = {"checkpoint", "images", "new_scans", "output", "overwrite", "source_network"}
"""What is said to prediction or to an export alone."""


def run_options(run_params: Mapping[str, Any]) -> str:
    """Return ``--env`` and ``--params`` of a run as they are typed, each with a space before it; or nothing.

    ``run_params`` are those of Kedro's hooks.
    """
    given = {name: v for name, v in (run_params["runtime_params"] or {}).items() if name not in _OF_ONE_PIPELINE}
    params = ",".join(f"{name}={value}" for name, value in _typed(given))
    return environment_option(run_params["env"]) + (f" --params {shlex.quote(params)}" if params else "")


def _typed(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _typed(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value)
