"""Kedro's datasets made atomic: all else of them is as it was."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io.core import AbstractVersionedDataset, Version
from kedro_datasets import json as kedro_json
from kedro_datasets import matplotlib as kedro_matplotlib
from kedro_datasets import pandas as kedro_pandas
from kedro_datasets import plotly as kedro_plotly
from kedro_datasets import text as kedro_text
from kedro_viz.models.utils import get_dataset_type
from matplotlib.figure import Figure

from dwp_kedro.datasets import atomic
from dwp_kedro.datasets.plotly import json_dataset

TABLE = pd.DataFrame({"subject": ["007", "008"], "dsc": [0.5, 0.25]})
PAIRS = [
    (atomic.CSVDataset, kedro_pandas.CSVDataset, TABLE, "table.csv"),
    (atomic.JSONDataset, kedro_json.JSONDataset, {"dsc": [0.5, None], "ü": "é"}, "values.json"),
    (json_dataset.JSONDataset, kedro_plotly.JSONDataset, go.Figure(go.Bar(y=[1, 2])), "chart.json"),
    (atomic.MatplotlibDataset, kedro_matplotlib.MatplotlibDataset, Figure(figsize=(1, 1)), "figure.png"),
    (atomic.TextDataset, kedro_text.TextDataset, "a\nb", "text.md"),
]
Kind = type[AbstractVersionedDataset[Any, Any]]


@pytest.mark.parametrize(("ours", "theirs", "value", "name"), PAIRS)
def test_files_and_previews_are_those_of_kedros_own(
    tmp_path: Path, ours: Kind, theirs: Kind, value: Any, name: str
):
    for folder, kind in (("ours", ours), ("theirs", theirs)):
        dataset = kind(filepath=str(tmp_path / folder / name))
        assert not dataset.exists()
        dataset.save(value)
        assert dataset.exists()
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    mine, kedros = (kind(filepath=str(tmp_path / "ours" / name)) for kind in (ours, theirs))
    if not hasattr(kedros, "preview"):
        return
    assert json.dumps(mine.preview()) == json.dumps(kedros.preview())
    # By its name Kedro-Viz tells pictures from tables and charts.
    annotations = [inspect.signature(dataset.preview).return_annotation for dataset in (mine, kedros)]
    assert annotations[0] == annotations[1]


def test_kedro_viz_knows_a_chart(tmp_path: Path):
    """Its icon is chosen by this text."""
    dataset = json_dataset.JSONDataset(filepath=str(tmp_path / "chart.json"))
    assert get_dataset_type(dataset) == "plotly.json_dataset.JSONDataset"


def test_versions(tmp_path: Path):
    for number, version in enumerate(("2025-01-01T00.00.00.000Z", "2025-01-02T00.00.00.000Z")):
        atomic.JSONDataset(filepath=str(tmp_path / "a.json"), version=Version(None, version)).save(number)
    assert atomic.JSONDataset(filepath=str(tmp_path / "a.json"), version=Version(None, None)).load() == 1
    assert len(list((tmp_path / "a.json").iterdir())) == 2


def test_other_file_systems():
    dataset = atomic.TextDataset(filepath="memory://tests/atomic/text.md")
    dataset.save("a")
    dataset.save("b")
    assert dataset.load() == "b"
