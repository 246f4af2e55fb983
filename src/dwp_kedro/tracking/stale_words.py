"""How it is told what is out of date, and the commands that mend it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dwp_kedro.lineage.assessment import Verdict
from dwp_kedro.tracking.command import shell_name
from dwp_kedro.tracking.run_options import run_options

_RESUME = "--only-missing-outputs"
_SELECTION = {
    "pipeline_names": "--pipelines",
    "namespaces": "--namespaces",
    "tags": "--tags",
    "node_names": "--nodes",
    "from_nodes": "--from-nodes",
    "to_nodes": "--to-nodes",
    "from_inputs": "--from-inputs",
    "to_outputs": "--to-outputs",
}
"""Options by Kedro's names of run parameters."""

_LISTED = 8
_REASONS = 6
_ENTRIES = 3


def listed(names: Sequence[str]) -> list[str]:
    """Return the first names, a line each."""
    more = [f"  … and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return [f"  {name}" for name in names[:_LISTED]] + more


def why(verdicts: Iterable[Verdict]) -> list[str]:
    """Return every reason with the entries that are out of date by it."""
    entries: dict[str, list[str]] = {}
    for verdict in verdicts:
        for reason in verdict.reasons:
            entries.setdefault(reason.text, []).extend(verdict.outputs)
    lines = []
    for text, names in list(entries.items())[:_REASONS]:
        more = f" and {len(names) - _ENTRIES} more" if len(names) > _ENTRIES else ""
        lines += [f"  {text}:", f"    {', '.join(names[:_ENTRIES])}{more}"]
    left = len(entries) - _REASONS
    return [*lines, f"  … and {left} more reasons"] if left > 0 else lines


def command(run_params: Mapping[str, Any], *, outputs: Sequence[str] = (), resumes: bool = True) -> str:
    """Return the command for a run of the same environment and parameters.

    Args:
        run_params: Kedro's, of this run.
        outputs: all that is to be made; none: everything.
        resumes: keep what is up to date.
    """
    words = [_RESUME] * resumes + (["--to-outputs", ",".join(outputs)] if outputs else [])
    return _command(run_params, words, {})


def accepting_command(run_params: Mapping[str, Any], accepted: str) -> str:
    """Return the command for the same run, which also takes as it is what is out of date by this alone."""
    chosen = [(option, run_params.get(name)) for name, option in _SELECTION.items()]
    words = [word for option, names in chosen if names for word in (option, ",".join(names))]
    return _command(run_params, [_RESUME] * run_params["only_missing_outputs"] + words, {"accept": accepted})


def _command(run_params: Mapping[str, Any], words: Sequence[str], parameters: Mapping[str, str]) -> str:
    program = shell_name("kedro", Path(run_params["project_path"]))
    given = {name: value for name, value in (run_params["runtime_params"] or {}).items() if name != "accept"}
    options = run_options({**run_params, "runtime_params": {**given, **parameters}})
    return f"{program} {shlex.join(['run', *words])}{options}"
