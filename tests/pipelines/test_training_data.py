"""Trainings on patches of volumes of different sizes: what they read, what they see, what V is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from dwp_kedro.datasets import VolumesDataset
from dwp_kedro.imaging.augmentation import Augmentation
from dwp_kedro.imaging.patches import Patches
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    MethodParameters,
    NetworkParameters,
    SourceTrainingParameters,
    TargetTrainingParameters,
)
from dwp_kedro.pipelines.source_training.nodes import train_network
from dwp_kedro.pipelines.target_evaluation.cell import Cell, train_cell
from dwp_kedro.pipelines.training_data import training_data, training_transform
from dwp_kedro.training.transform import InTurn

SHAPES = {"a": (40, 24, 16), "b": (16, 30, 20), "c": (17, 16, 33), "d": (16, 24, 18)}
PATCH = {"size": [16, 24, 16]}
N_CHANNELS = 2


def partitions() -> dict[str, Volume]:
    random, made = np.random.default_rng(0), {}
    for subject, shape in SHAPES.items():
        images = random.normal(size=(N_CHANNELS, *shape)).astype(np.float32)
        for channel, image in enumerate(images):
            made[f"{subject}/image_{channel:04d}"] = Volume.from_array(image, np.eye(4))
        made[f"{subject}/label"] = Volume.from_array((images[0] > 1).astype(np.uint8), np.eye(4))
    return made


@pytest.fixture(params=[".nii", ".nii.gz"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str]:
    dataset = VolumesDataset(path=tmp_path / "volumes", filename_suffix=request.param)
    dataset.save(partitions())
    return dataset.load(), request.param


def memory_mapped() -> set[str]:
    return {"/".join(Path(mapping.path).parts[-2:]) for mapping in psutil.Process().memory_maps()}


def training(**values: Any) -> TargetTrainingParameters:
    schedule = {"kind": "cosine", "max_steps": 2}
    return TargetTrainingParameters.model_validate({"schedule": schedule, "patches": PATCH, **values})


def test_uncompressed_volumes_stay_on_disk_and_all_come_as_they_are(stored: tuple[Any, str]):
    volumes, suffix = stored
    *channels, labels, foregrounds = training_data(volumes, list(SHAPES), N_CHANNELS, training())
    expected = partitions()
    assert len(channels) == N_CHANNELS
    for row, subject in enumerate(SHAPES):
        for channel, column in enumerate(channels):
            assert np.array_equal(column[row], expected[f"{subject}/image_{channel:04d}"].array)
            assert (f"{subject}/image_{channel:04d}.nii" in memory_mapped()) == (suffix == ".nii")
        label = expected[f"{subject}/label"].array
        assert np.array_equal(labels[row], label)
        assert labels[row].dtype == torch.uint8
        assert np.array_equal(foregrounds[row], np.flatnonzero(label))
    images, masks = Patches(training().patches)((*channels, labels, foregrounds), 0)
    assert images.shape == (len(SHAPES), N_CHANNELS, *PATCH["size"])
    assert images.is_contiguous()
    # Noise above 1 is foreground; what is padded is 0 in both.
    assert torch.equal(masks == 1, images[:, 0] > 1)


def test_patches_are_taken_before_they_are_augmented():
    assert training_transform(training(patches=None)) is None
    assert isinstance(training_transform(training()), Patches)
    assert isinstance(training_transform(training(patches=None, augmentation={})), Augmentation)
    both = training_transform(training(augmentation={}))
    assert isinstance(both, InTurn)
    patches, augmentation = both.settings()["in_turn"]
    assert patches["size"] == PATCH["size"]
    assert augmentation.keys() == training(augmentation={}).augmentation.model_dump().keys()


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    volumes = {name: lambda volume=volume: volume for name, volume in partitions().items()}
    cohort = {
        "name": "noise",
        "description": "Noise.",
        "reader": {"layout": "phantom", "folder": "nowhere", "disease": "tumour", "n_subjects": 4},
        "preprocessing": {"grid": None},
    }
    return {
        "volumes": volumes,
        "subjects": pd.DataFrame({"subject": list("abcd"), "channels": N_CHANNELS, "fingerprint": list("wxyz")}),
        "cohort": CohortParameters.model_validate(cohort),
        "network": NetworkParameters(channels=(2, 2, 2, 4)),
        "compute": ComputeParameters(device="cpu", precision="32-true", state_folder=tmp_path),
    }


def test_v_is_the_voxels_of_a_patch_and_n_the_number_of_training_volumes(inputs: dict[str, Any]):
    splits = pd.DataFrame({"split": 0, "subject": list("abcd"), "role": "train", "rank": range(4)})
    checkpoint, history = train_cell(
        **inputs,
        splits=splits,
        method=MethodParameters(start="he", prior="standard_normal"),
        training=training(temperature=0.7, batch_size=2, schedule={"kind": "cosine", "max_steps": 4}),
        cell=Cell("standard_normal", n_train=3, split=0, seed=0),
    )
    n, v = 3, 16 * 24 * 16
    expected = history["data_term"] + 0.7 * history["kl"] / (n * v)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    assert (0.7 * history["kl"] / (n * v)).min() > 0.01, "the difference would be seen"
    assert checkpoint.metadata["input"]["patch"] == PATCH["size"]


def test_source_networks_learn_from_patches_and_are_scored_on_all_of_a_volume(inputs: dict[str, Any]):
    schedule = {"kind": "cosine", "max_steps": 2}
    sources = {
        augmentation is not None: SourceTrainingParameters.model_validate(
            {"schedule": schedule, "patches": PATCH, "augmentation": augmentation}
        )
        for augmentation in (None, {})
    }
    networks = {}
    for is_augmented, source in sources.items():
        checkpoint, _, metrics = train_network(**inputs, training=source, index=0, sample="bootstrap")
        again = train_network(**inputs, training=source, index=0, sample="bootstrap")[0]
        assert all(torch.equal(tensor, again.weights[name]) for name, tensor in checkpoint.weights.items())
        assert 0 < metrics["left_out_dsc"] < 1
        networks[is_augmented] = checkpoint.weights["init_conv.weight"]
    assert not torch.equal(networks[True], networks[False])
