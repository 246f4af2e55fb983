"""Every entry of the catalog, with a save that the system cuts short in the middle of a file."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from matplotlib.figure import Figure

from dwp_kedro.atomic_write import WriteError
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.datasets import (
    CheckpointDataset,
    CheckpointsDataset,
    KernelTensorDataset,
    PredictionsDataset,
    ReportDataset,
    VolumesDataset,
    atomic,
)
from dwp_kedro.datasets.handover import HandoverDataset
from dwp_kedro.datasets.plotly import json_dataset
from dwp_kedro.imaging.predicted_scan import PredictedScan, ScanToPredict
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.settings import CONFIG_LOADER_ARGS
from project_folder import REPOSITORY

FEW_BYTES = 64


def read_catalog() -> dict[str, dict[str, Any]]:
    loader = OmegaConfigLoader(str(REPOSITORY / "conf"), **{**CONFIG_LOADER_ARGS, "default_run_env": "test"})
    return dict(loader["catalog"])


ENTRIES = read_catalog()


@contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond ``n_bytes``, as on a full disk; Python ignores the signal that would end it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_value(dataset: Any, seed: int) -> Any:
    """Return something of more than FEW_BYTES that the dataset can save."""
    numbers = np.random.default_rng(seed).random((8, 8, 8)).astype(np.float32)
    if isinstance(dataset, atomic.CSVDataset):
        return pd.DataFrame(numbers[0])
    if isinstance(dataset, json_dataset.JSONDataset):
        return go.Figure(go.Scatter(y=numbers[0, 0].tolist()))
    if isinstance(dataset, atomic.MatplotlibDataset):
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot(numbers[0, 0])
        return figure
    if isinstance(dataset, VolumesDataset):
        volume = Volume.from_array((100 * numbers).astype(np.int16), np.eye(4))
        return {"subject/image_0000": volume, "subject/label": volume}
    if isinstance(dataset, PredictionsDataset):
        files = {"mask.nii.gz": numbers.tobytes(), "probability.nii.gz": numbers.tobytes()}
        return [ScanToPredict("scan", lambda: str(seed), lambda: PredictedScan([{"name": "scan"}], files))]
    if isinstance(dataset, KernelTensorDataset):
        index = torch.arange(2)
        return KernelTensor(torch.full((2, 3, 3, 3), float(seed)), ["a", "b"], ["x", "y"], index, index)
    if isinstance(dataset, CheckpointDataset | HandoverDataset):
        checkpoint = Checkpoint({"weight": torch.from_numpy(numbers)}, {"seed": seed})
        return checkpoint if isinstance(dataset, CheckpointDataset) else {"": checkpoint}
    if isinstance(dataset, atomic.JSONDataset):
        return {"numbers": numbers[0].tolist()}
    assert isinstance(dataset, atomic.TextDataset | ReportDataset), f"how is a {type(dataset)} tested?"
    return str(numbers[0].tolist())


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_save_that_is_cut_short_leaves_the_old_content_whole(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    allowed = {"overwrite": True} if "overwrite" in ENTRIES[entry] else {}  # What is handed over never is, else.
    catalog = DataCatalog.from_config({entry: {**ENTRIES[entry], **allowed}})
    dataset: Any = catalog.get(re.sub(r"\{(\w+)\}", r"\1", entry))
    if isinstance(dataset, MemoryDataset | CheckpointsDataset):
        return  # They write nothing.
    dataset.save(make_value(dataset, 1))
    old = files_under(tmp_path)
    assert old
    with file_size_limit(FEW_BYTES), pytest.raises(DatasetError) as caught:
        dataset.save(make_value(dataset, 2))
    assert isinstance(told_by(caught.value), WriteError)
    assert files_under(tmp_path) == old, "the old content is whole, and no temporary file is left"


def told_by(error: BaseException) -> BaseException:
    """Return the error at the bottom but one: what it was raised from is the system's."""
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert isinstance(causes[-1], OSError)
    return causes[-2]
