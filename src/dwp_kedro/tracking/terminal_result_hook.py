"""The hook whose lines end a run that made files for its user: predictions of new scans, a prior to hand over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.tracking.catalog import local_path, path_in

_PREDICTIONS = "prediction.predictions"
_HANDED_OVER = ("export_prior", "export_kernels")


class PredictionError(Exception):
    """Some scans could not be predicted; the message lists them."""


class ResultHook:
    """Prints, after the lines of all other hooks, what was written where; ends in error if a scan failed.

    It is a hook that raises, and no node, because the run itself is whole: there is nothing to resume.
    """

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Print the files.

        Raises:
            PredictionError: naming the scans that could not be predicted.
        """
        folder = Path(run_params["project_path"])
        made = pipeline.all_outputs()
        handed_over = [local_path(catalog, name) for name in made if name.startswith(_HANDED_OVER)]
        _print("Written:    ", sorted({path_in(folder, path) for path in handed_over if path is not None}))
        if _PREDICTIONS in made:
            path, dataset = local_path(catalog, _PREDICTIONS), catalog.get(_PREDICTIONS)
            assert path is not None
            assert dataset is not None
            _report(dataset.load(), path_in(folder, path))


def _report(volumes: pd.DataFrame, folder: Path) -> None:
    """Print how many scans ``volumes.csv`` lists, and name those with a problem in an error."""
    bad = volumes[volumes["problem"] != ""]
    good = volumes[volumes["problem"] == ""]
    n_good, n_noted = good["name"].nunique(), good.loc[good["note"] != "", "name"].nunique()
    n_scans = n_good + len(bad)
    counts = [f"{n_good} of {_scans(n_scans)} predicted"]
    counts += [f"{n_noted} with a note"] if n_noted else []
    _print("Predictions:", [f" {folder} ({', '.join(counts)}; see volumes.csv)"])
    if len(bad):
        rows = bad[["name", "problem"]].itertuples(index=False)
        listed = "\n".join(f"  {row.name}: {row.problem}" for row in rows)
        others = "; the others are done" if n_good else ""
        raise PredictionError(
            f"{len(bad)} of {_scans(n_scans)} could not be predicted{others}:\n{listed}\n"
            "Mend or remove these and give the same command again: it passes over what is done."
        )


def _scans(number: int) -> str:
    return f"{number} scan{'' if number == 1 else 's'}"


def _print(title: str, lines: list[Any]) -> None:
    for number, line in enumerate(lines):
        text = f"{title if number == 0 else ' ' * len(title)}{line}"
        rich.get_console().print(text, markup=False, highlight=False, soft_wrap=True)
