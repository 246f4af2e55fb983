"""The hook that tells the report which run it is part of: a node knows its inputs only."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.lineage.checksums import checksum
from dwp_kedro.tracking.command import restrictions, run_command
from dwp_kedro.tracking.git_state import git_state

THIS_RUN = "this_run"
_RECEIVED_PRIOR = "received_prior"


class ThisRunHook:
    """Fills the dataset ``this_run``, before anything asks whether it is there."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Save what is known of the run, as names and texts, if the run reads it.

        These are ``command``, ``restricted by`` (the run parameters that leave out a part of the pipeline, or
        nothing), ``started`` (local time with its offset from UTC), ``commit`` (nothing outside of Git) and, of a
        received prior, ``prior file`` and ``prior sha256``.
        """
        if THIS_RUN not in pipeline.inputs():
            return
        facts = {
            "command": run_command(run_params),
            "restricted by": ", ".join(restrictions(run_params)).replace("_", " "),
            "started": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
            "commit": _described_commit(Path(run_params["project_path"])),
        }
        if _RECEIVED_PRIOR in pipeline.inputs() and catalog.exists(_RECEIVED_PRIOR):
            dataset: Any = catalog.get(_RECEIVED_PRIOR)
            file = Path(str(dataset._filepath))
            facts |= {"prior file": file.name, "prior sha256": checksum(file)}
        catalog.save(THIS_RUN, facts)


def _described_commit(folder: Path) -> str:
    state = git_state(folder)
    if state is None:
        return ""
    commit, is_changed = state
    return f"{commit}, with changes that are not committed" if is_changed else commit
