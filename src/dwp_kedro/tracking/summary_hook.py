"""The hook that ends a run with its result on the terminal."""

from __future__ import annotations

import rich
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from rich.table import Table

_SUMMARY = "target_evaluation.summary_dsc"


class SummaryHook:
    """Prints the table of DSC against train size and method, if the run was to make one."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Print the table: after the terminal's bars are gone, before MLflow's closing lines."""
        if _SUMMARY not in pipeline.all_outputs():
            return
        summary = catalog.load(_SUMMARY)
        table = Table(title="Test DSC, mean (standard deviation over splits)", title_justify="left")
        for column in summary.columns:
            table.add_column(str(column), justify="right")
        for row in summary.astype(str).itertuples(index=False):
            table.add_row(*row)
        rich.get_console().print(table)
