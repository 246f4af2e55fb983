"""Several channels and several classes, from files on disk to scores, through the nodes of all pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    GridParameters,
    MethodParameters,
    NetworkParameters,
    PredictionParameters,
    PriorLearningParameters,
    ScheduleParameters,
    SourceTrainingParameters,
    TargetTrainingParameters,
)
from dwp_kedro.pipelines.data_processing.nodes import (
    collect_problems,
    describe_volumes,
    preprocess_cohort,
    read_cohort,
    split_subjects,
)
from dwp_kedro.pipelines.prior_learning.nodes import assemble_prior, collect_group, learn_group
from dwp_kedro.pipelines.source_training.nodes import train_network
from dwp_kedro.pipelines.target_evaluation.cell import Cell, train_cell
from dwp_kedro.pipelines.target_evaluation.scoring import predict_cell, score_predictions

SUBJECTS = [f"case_{index}" for index in range(5)]
SHAPE, AFFINE = (14, 12, 10), np.diag([-2.0, -2.0, 3.0, 1.0])  # LPS, as scanners write it
GRID = GridParameters(methods=["dwp"], n_train=[2], n_splits=1, n_test=2)
CELL = Cell("dwp", n_train=2, split=0, seed=0)
FEW_STEPS = ScheduleParameters(kind="cosine", max_steps=2)


def write_scan(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


def write_cohort(folder: Path) -> None:
    """Write subjects of two images, the second the negative of the first, and labels 0, 1, 2, 3, 4."""
    for index, name in enumerate(SUBJECTS):
        rng = np.random.default_rng(index)
        label = rng.integers(0, 5, SHAPE, dtype=np.uint8)
        image = (100 * label + rng.integers(1, 90, SHAPE)).astype(np.int16)
        write_scan(folder / name / f"{name}_t1.nii.gz", image)
        write_scan(folder / name / f"{name}_t2.nii.gz", (1000 - image).astype(np.int16))
        write_scan(folder / name / f"{name}_seg.nii.gz", label)


def raw_labels(folder: Path, subject: str) -> np.ndarray:
    return np.asarray(nib.load(folder / subject / f"{subject}_seg.nii.gz").dataobj)


def cohort_of(reader: dict[str, Any], labels: Any) -> CohortParameters:
    preprocessing = {"grid": [16, 16, 16], "fit": "pad_crop", "foreground_threshold": None}
    return CohortParameters.model_validate(
        {"name": "cases", "description": "", "reader": reader, "labels": labels, "preprocessing": preprocessing}
    )


@dataclass
class Transfer:
    volumes: dict[str, Volume]
    prior: Checkpoint
    checkpoint: Checkpoint
    predictions: dict[str, Volume]
    own_grid_predictions: dict[str, Volume]
    scores: pd.DataFrame


def lazily(volumes: dict[str, Volume]) -> dict[str, Any]:
    return {name: lambda volume=volume: volume for name, volume in volumes.items()}


def transfer(cohort: CohortParameters, state_folder: Path) -> Transfer:
    """Take one cohort through everything, as source and as target."""
    compute = ComputeParameters(state_folder=state_folder, device="cpu")
    network = NetworkParameters(channels=(2, 2, 2, 4))
    training = SourceTrainingParameters(n_networks=2, schedule=FEW_STEPS, restart=None)
    learning = PriorLearningParameters(latent_dim=2, mixture_components=2, schedule=FEW_STEPS)

    manifest, problems = read_cohort(cohort)
    problems = collect_problems(problems, manifest, GRID, cohort, starts_from_source=True)
    partitions, preprocessed = preprocess_cohort(manifest, problems, cohort)
    saved = {name: load() for name, load in sorted(partitions.items())}
    volumes = lazily(saved)
    subjects = describe_volumes(volumes, preprocessed, manifest, cohort)
    splits = split_subjects(subjects, GRID)

    networks = {
        f"network_{index}": train_network(
            volumes, subjects, cohort, training, network, compute, index=index, sample="bootstrap"
        )[0]
        for index in range(2)
    }
    n_channels, n_classes = int(subjects["channels"].iloc[0]), len(cohort.class_names)
    unet = UNet3D(n_channels, n_classes + 1, network.channels)
    groups = {
        group.name: learn_group(collect_group(group, **networks), learning, compute, group=group)[0]
        for group in kernel_groups(unet, n_channels)
    }
    prior = assemble_prior(cohort, subjects, training, learning, network, **groups)

    checkpoint, _ = train_cell(
        volumes,
        subjects,
        splits,
        cohort,
        MethodParameters(start="prior", prior="deep_weight_prior"),
        TargetTrainingParameters(schedule=FEW_STEPS),
        network,
        compute,
        cell=CELL,
        prior=prior,
    )
    predictions, own_grid_predictions, uncertainty, predicted = predict_cell(
        checkpoint, volumes, splits, manifest, cohort, GRID, PredictionParameters(n_samples=2), compute, cell=CELL
    )
    assert set(uncertainty["subject"]) == set(predicted["subject"])
    assert uncertainty["auroc_mutual_information"].notna().any()
    scores, _ = score_predictions(
        lazily(predictions),
        lazily(own_grid_predictions),
        predicted,
        volumes,
        manifest,
        cohort,
        checkpoint,
        cell=CELL,
    )
    return Transfer(saved, prior, checkpoint, predictions, own_grid_predictions, scores)


def test_two_images_per_subject_become_two_channels(tmp_path: Path):
    write_cohort(tmp_path)
    patterns = ["{subject}_t1.nii.gz", "{subject}_t2.nii.gz"]
    reader = {"layout": "subject_folders", "folder": tmp_path, "channels": patterns, "label": "*_seg.nii.gz"}
    result = transfer(cohort_of(reader, "above_zero"), tmp_path / "states")

    per_subject = ("{}/image_0000", "{}/image_0001", "{}/label")
    assert set(result.volumes) == {kind.format(name) for name in SUBJECTS for kind in per_subject}
    for name in SUBJECTS:
        first, second = (result.volumes[f"{name}/image_{channel:04d}"].array for channel in (0, 1))
        assert first.std() > 0
        np.testing.assert_allclose(second, -first, atol=1e-4)
    assert result.checkpoint.metadata["arguments"]["in_channels"] == 2
    assert result.prior.metadata["card"]["source_cohort"]["channels"] == 2
    # Priors are per kernel: the input convolution has 2 × 2 of them now, all in a group.
    assert result.checkpoint.weights[first_convolution(result.checkpoint)].shape == (2, 2, 3, 3, 3)
    assert len(result.scores) == GRID.n_test


def first_convolution(checkpoint: Checkpoint) -> str:
    return next(name for name, tensor in checkpoint.weights.items() if tensor.ndim == 5)


def test_two_classes_are_trained_together_and_scored_apart(tmp_path: Path):
    write_cohort(tmp_path)
    rows = [f"{name},{name}/{name}_t1.nii.gz,{name}/{name}_seg.nii.gz" for name in SUBJECTS]
    (tmp_path / "cases.csv").write_text("\n".join(["subject,image,label", *rows]))
    reader = {"layout": "csv", "file": tmp_path / "cases.csv", "folder": tmp_path}
    classes = {"core": [1, 4], "rim": [2]}
    result = transfer(cohort_of(reader, classes), tmp_path / "states")

    for name in SUBJECTS:
        raw, label = raw_labels(tmp_path, name), result.volumes[f"{name}/label"].array
        for value, (_, members) in enumerate(classes.items(), start=1):
            assert (label == value).sum() == np.isin(raw, members).sum() > 0
        assert label.max() == 2
    assert result.checkpoint.metadata["arguments"]["out_channels"] == 3
    assert result.prior.metadata["card"]["source_cohort"]["classes"] == ["core", "rim"]

    tested = set(result.predictions)
    assert len(tested) == GRID.n_test
    assert sorted(zip(result.scores["subject"], result.scores["class"], strict=True)) == sorted(
        (name, of_class) for name in tested for of_class in classes
    )
    for row in result.scores.rename(columns={"class": "of_class"}).itertuples():
        value, members = list(classes).index(row.of_class) + 1, classes[row.of_class]
        label = result.volumes[f"{row.subject}/label"].array
        assert row.dsc == pytest.approx(dice(result.predictions[row.subject].array == value, label == value))
        own = result.own_grid_predictions[row.subject].array
        assert own.shape == SHAPE
        truth = np.isin(raw_labels(tmp_path, row.subject), members)
        assert row.own_grid_dsc == pytest.approx(dice(own == value, truth))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0
