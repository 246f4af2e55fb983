"""The hook that shows cohorts on the terminal while they are checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from rich import box
from rich.table import Table
from rich.text import Text

_COHORT = re.compile(r"data_processing\.(?P<cohort>\w+)\.(?P<part>manifest|overview|contact_sheet)")
_PROBLEMS = "data_processing.problems"
_CHECK_ALONE = ["data_processing"]
_MOST_ROWS = 40
_NUMBERS = ("label_ml", "label_voxels")
_COLUMNS = {
    "subject": "subject",
    "group": "group",
    "shape": "shape",
    "spacing": "spacing, mm",
    "orientation": "orientation",
    "intensities": "intensities",
    "label_values": "label values",
    "label_ml": "label, ml",
    "label_voxels": "label, voxels",
}


class CohortHook:
    """Prints each cohort's overview; its subjects too, where the run is the check of the data alone."""

    def __init__(self) -> None:
        self._catalog: CatalogProtocol | None = None
        self._folder = Path()
        self._lists_subjects = False
        self._manifests: dict[str, pd.DataFrame] = {}
        self._sheets: list[str] = []

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Remember what kind of run this is; have cohorts with problems read again."""
        self._catalog = catalog
        self._folder = Path(run_params["project_path"])
        self._lists_subjects = run_params["pipeline_names"] == _CHECK_ALONE
        self._manifests, self._sheets = {}, []
        if run_params["only_missing_outputs"]:
            _forget_problems(pipeline, catalog)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Print what was found out, as soon as it is."""
        found = _COHORT.fullmatch(dataset_name)
        if dataset_name == _PROBLEMS:
            self._print_problems(data)
        elif found is None:
            return
        elif found["part"] == "manifest":
            self._manifests[found["cohort"]] = data
        elif found["part"] == "overview":
            self._print_cohort(found["cohort"], data)
        else:
            self._sheets.append(self._place(dataset_name))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Say where the pictures are, after a check of the data alone."""
        if self._lists_subjects and self._sheets:
            _print(
                "\n  ".join(
                    ["No problems found. Look at every subject's mask, outlined in one slice:", *self._sheets]
                )
            )

    def _print_cohort(self, cohort: str, overview: pd.DataFrame) -> None:
        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
        for row in overview.itertuples():
            style = "bold yellow" if row.fact == "look at" else ""
            table.add_row(Text(str(row.fact), style), Text(str(row.value), style))
        _print(f"{cohort} cohort: {overview['cohort'].iloc[0]}")
        _print(table)
        manifest = self._manifests.get(cohort)
        if self._lists_subjects and manifest is not None and len(manifest):
            _print(_subjects_table(manifest))
            left = len(manifest) - _MOST_ROWS
            more = f"{left} more subjects" if left > 0 else "The same as a table, with files and fingerprints"
            _print(f"{more}: {self._place(f'data_processing.{cohort}.manifest')}")

    def _print_problems(self, problems: pd.DataFrame) -> None:
        if len(problems):
            _print(f"Problems, as a table: {self._place(_PROBLEMS)}")

    def _place(self, name: str) -> str:
        assert self._catalog is not None, "a run begins before it saves"
        dataset: Any = self._catalog.get(name)
        path = Path(str(dataset._filepath))
        return (path.relative_to(self._folder) if path.is_relative_to(self._folder) else path).as_posix()


def _subjects_table(manifest: pd.DataFrame) -> Table:
    """Show what subjects differ in; what they have in common is in the overview."""
    has_volumes = pd.to_numeric(manifest["label_ml"]).notna().all()
    volume = "label_ml" if has_volumes else "label_voxels"
    shown = [
        column
        for column in _COLUMNS
        if column in ("subject", volume)
        or (column not in _NUMBERS and (len(manifest) == 1 or manifest[column].nunique() > 1))
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown:
        justify: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        table.add_column(_COLUMNS[column], justify=justify, no_wrap=column == "subject", overflow="fold")
    for row in manifest[shown].head(_MOST_ROWS).itertuples(index=False):
        table.add_row(*(Text(f"{value:.4g}" if isinstance(value, float) else str(value)) for value in row))
    return table


def _forget_problems(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Delete what was found out about cohorts with problems, which may be mended since."""
    made = pipeline.all_outputs()
    if _PROBLEMS not in made or not catalog.exists(_PROBLEMS) or catalog.load(_PROBLEMS).empty:
        return
    for name in made:
        if name == _PROBLEMS or name.endswith((".manifest", ".overview", ".problems")):
            dataset: Any = catalog.get(name)
            Path(str(dataset._filepath)).unlink(missing_ok=True)
            dataset.release()


def _print(shown: Any) -> None:
    rich.get_console().print(shown, markup=False, highlight=False, soft_wrap=isinstance(shown, str))
