"""The hook that ends a run with its result on the terminal."""

from __future__ import annotations

import pandas as pd
import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from rich.table import Table

_TITLES = {
    "target_evaluation.summary_dsc": "Test DSC, mean (standard deviation over splits)",
    "target_evaluation.summary_iou": "Test IoU, mean (standard deviation over splits)",
}


class SummaryHook:
    """Prints DSC and IoU against train size and method, if the run was to make those tables."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Print the tables: after the terminal's bars are gone, before MLflow's closing lines."""
        made = pipeline.all_outputs()
        for name, title in _TITLES.items():
            if name in made:
                rich.get_console().print(_table(title, catalog.load(name)))


def _table(title: str, summary: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left")
    for column in summary.columns:
        table.add_column(str(column), justify="right")
    for row in summary.astype(str).itertuples(index=False):
        table.add_row(*row)
    return table
