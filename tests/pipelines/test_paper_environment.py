"""The paper's environment on real scans: its readers, its preprocessing, and the start of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dwp_kedro.cohorts.checks import PROBLEM_COLUMNS
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import CohortParameters, ComputeParameters
from dwp_kedro.pipelines.data_processing.nodes import describe_volumes, preprocess_cohort, read_cohort
from dwp_kedro.pipelines.source_training.nodes import train_network

REPOSITORY = Path(__file__).parents[2]
PAPER_GRID = (152, 184, 144)
NO_PROBLEMS = pd.DataFrame(columns=PROBLEM_COLUMNS)


@pytest.fixture
def parameters(shared_data: Path, tmp_path: Path, open_project: Any) -> dict[str, Any]:
    """The environment's parameters, with a data root that has the paper's two cohorts in it."""
    (tmp_path / "ms").symlink_to(shared_data / "ms_ljubljana")
    (tmp_path / "brats18").symlink_to(shared_data / "brats2021")
    return open_project(REPOSITORY, "ms_to_brats18", {"data_root": str(tmp_path)}).params


def preprocess(cohort: CohortParameters, manifest: pd.DataFrame) -> tuple[dict[str, Volume], pd.DataFrame]:
    partitions, subjects = preprocess_cohort(manifest, NO_PROBLEMS, cohort)
    return {name: load() for name, load in partitions.items()}, subjects


@pytest.mark.parametrize(("which", "modality", "n_subjects"), [("source", "flair", 3), ("target", "t2", 6)])
def test_real_scans_reach_the_papers_grid(parameters: dict[str, Any], which: str, modality: str, n_subjects: int):
    cohort = parameters["data_processing"][which]
    manifest, problems = read_cohort(cohort)
    assert problems.empty, problems.to_string()
    assert len(manifest) == n_subjects
    assert manifest["images"].str.contains(f"_{modality}.nii.gz", regex=False).all()

    first = manifest.head(1)
    volumes, _ = preprocess(cohort, first)
    subject = first["subject"].item()
    image, label = volumes[f"{subject}/image_0000"], volumes[f"{subject}/label"]
    assert image.shape == label.shape == PAPER_GRID
    assert (image.orientation, image.spacing) == ("RAS", (1.0, 1.0, 1.0))
    # Scans of 1 mm keep their voxels, and the crop keeps the head: no lesion voxel is lost or won.
    assert (label.array > 0).sum() == first["label_voxels"].item()
    inside = image.array[image.array != 0]
    assert inside.size > 1_000_000, "a brain has more than a litre"
    assert (inside.mean(), inside.std()) == pytest.approx((0, 1), abs=1e-3)


def test_the_papers_source_training_starts(parameters: dict[str, Any], tmp_path: Path):
    """Two steps of the paper's network and loss, on a coarser grid than the paper's."""
    cohort = parameters["data_processing"]["source"]
    coarse = cohort.preprocessing.model_copy(update={"grid": (40, 48, 40), "fit": "resample"})
    cohort = cohort.model_copy(update={"preprocessing": coarse})
    training = parameters["source_training"]
    two_steps = training.schedule.model_copy(update={"max_steps": 2})
    manifest = read_cohort(cohort)[0]
    volumes, preprocessed = preprocess(cohort, manifest)
    loaders = {name: lambda volume=volume: volume for name, volume in volumes.items()}
    subjects = describe_volumes(loaders, preprocessed, manifest, cohort)
    checkpoint, history, metrics = train_network(
        loaders,
        subjects,
        cohort,
        training.model_copy(update={"schedule": two_steps}),
        parameters["network"],
        ComputeParameters(device="cpu", state_folder=tmp_path),
        index=0,
        sample="bootstrap",
    )
    assert sum(tensor.numel() for tensor in checkpoint.weights.values()) == 726_480
    assert history["step"].tolist() == [2]
    assert np.isfinite(history).all(axis=None)
    assert 0 < metrics["left_out_dsc"] < 1
