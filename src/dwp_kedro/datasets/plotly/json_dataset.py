"""``JSONDataset`` of Plotly: by the last two modules of its path and its name Kedro-Viz knows a chart."""

from __future__ import annotations

from typing import Any

from kedro_datasets import plotly

from dwp_kedro.datasets.atomic import save_atomically


class JSONDataset(plotly.JSONDataset):
    """A chart, as ``plotly.JSONDataset`` reads and writes it, but whole or not at all."""

    def save(self, data: Any) -> None:
        """Write the chart."""
        save_atomically(self, super().save, data)
