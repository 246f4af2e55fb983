"""The environment decathlon_ct on small made-up CT scans in the Decathlon's layout, through all pipelines."""

from __future__ import annotations

import json
import mmap
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

from dwp_kedro.imaging.volume import read_volume
from dwp_kedro.parameters import CohortParameters, TargetTrainingParameters
from dwp_kedro.pipelines.target_evaluation.cell import Cell

REPOSITORY = Path(__file__).parents[2]
SHAPE, SPACING = (40, 48, 32), (8.0, 7.0, 6.0)
PATCH = (24, 24, 32)
ORGANS = {"Task08_HepaticVessel": 60, "Task03_Liver": 110, "Task09_Spleen": 130}  # Hounsfield units
CELL = Cell("dwp", n_train=2, split=0, seed=0)


def store_task(folder: Path, n_subjects: int, organ: int) -> None:
    """A body of water and fat in air, with an organ, a piece of metal, and an organ's tumour."""
    random = np.random.default_rng(organ)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    training = []
    for index in range(n_subjects):
        shape = tuple(side - 4 * (index % 2) for side in SHAPE)  # no two neighbours of one size
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
        body = x**2 + y**2 < 0.64
        centre = random.uniform(-0.2, 0.2, 3)
        distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        label = np.where(distance < 0.02, 2, np.where(distance < 0.12, 1, 0)).astype(np.uint8)
        image = np.where(body, random.choice([-90, 30], shape), -1000)
        image = np.where(label > 0, organ, image) + random.normal(0, 10, shape)
        image[body & (x > 0.7)] = 3000
        affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
        for kind, array in (("imagesTr", image.astype(np.int16)), ("labelsTr", label)):
            nib.save(nib.Nifti1Image(array, affine), folder / kind / f"scan_{index:03d}.nii.gz")
        name = f"scan_{index:03d}.nii.gz"
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    description = {"modality": {"0": "CT"}, "training": training, "test": []}
    (folder / "dataset.json").write_text(json.dumps(description))


def change(file: Path, changes: dict[str, Any]) -> None:
    """Lay nested values over those of a YAML file."""

    def over(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return {**old, **{k: over(old.get(k) or {}, v) if isinstance(v, dict) else v for k, v in new.items()}}

    file.write_text(yaml.safe_dump(over(yaml.safe_load(file.read_text()), changes), sort_keys=False))


def is_memory_mapped(array: np.ndarray) -> bool:
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, mmap.mmap)


@pytest.fixture(scope="module")
def ct_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with made-up data, its environment shrunk to seconds."""
    project = tmp_path_factory.mktemp("decathlon") / "project"
    project.mkdir()
    shutil.copytree(REPOSITORY / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
    (project / "conf" / "local").mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(REPOSITORY / name, project)
    for task, organ in ORGANS.items():
        store_task(project / "data" / "01_raw" / task, 4 if task.startswith("Task08") else 5, organ)
    conf = project / "conf" / "decathlon_ct"
    small = {"spacing": [8.0, 7.0, 6.0], "patch": list(PATCH), "n_test": 2}
    change(conf / "globals.yml", {"targets": {"Task03_Liver": small, "Task09_Spleen": small}})
    base = yaml.safe_load((project / "conf" / "base" / "parameters.yml").read_text())
    compute = {**base["compute"], "device": "cpu"}
    change(conf / "parameters.yml", {"network": {"channels": [2, 2, 2, 4]}, "compute": compute})
    file = conf / "parameters_data_processing.yml"
    file.write_text(file.read_text().replace("[0.8, 0.8, 5.0]", "[8.0, 7.0, 6.0]"))
    short = {"kind": "cosine", "max_steps": 3}
    training = {"n_networks": 2, "schedule": short, "restart": None, "patches": {"size": list(PATCH)}}
    change(conf / "parameters_source_training.yml", {"source_training": training})
    learning = {"latent_dim": 2, "mixture_components": 2, "batch_size": 16, "schedule": short}
    change(conf / "parameters_prior_learning.yml", {"prior_learning": learning})
    change(
        conf / "parameters_target_evaluation.yml",
        {
            "grid": {"methods": ["ri", "dwp"], "n_train": [2], "n_splits": 1},
            "target_training": {"schedule": short, "augmentation": {}},
        },
    )
    return project


def test_both_targets_are_a_line_apart(open_project: Any, tmp_path: Path):
    found = {}
    for task in ("Task03_Liver", "Task09_Spleen"):
        shutil.copytree(REPOSITORY / "conf", tmp_path / task / "conf", ignore=shutil.ignore_patterns("local"))
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(REPOSITORY / name, tmp_path / task)
        (tmp_path / task / "conf" / "local").mkdir()
        change(tmp_path / task / "conf" / "decathlon_ct" / "globals.yml", {"target_task": task})
        parameters = open_project(tmp_path / task, "decathlon_ct").params
        target, training = parameters["data_processing"]["target"], parameters["target_training"]
        assert isinstance(target, CohortParameters)
        assert isinstance(training, TargetTrainingParameters)
        assert target.reader.folder.name == task
        assert target.preprocessing.window == (-175, 250)
        assert training.patches is not None
        found[task] = (target.name, target.preprocessing.spacing, training.patches.size)
    assert found == {
        "Task03_Liver": ("liver", (1.5, 1.5, 1.5), (192, 192, 192)),
        "Task09_Spleen": ("spleen", (0.8, 0.8, 5.0), (480, 480, 24)),
    }


def test_all_pipelines_run_on_patches_and_windows(ct_project: Path, run_project: Any, open_project: Any):
    run_project(ct_project, "decathlon_ct")
    catalog = open_project(ct_project, "decathlon_ct").catalog

    volumes = ct_project / "data" / "03_primary" / "decathlon_ct" / "target"
    images = {path.parent.name: read_volume(path) for path in sorted(volumes.glob("*/image_0000.nii"))}
    assert len(images) == 5
    assert len({image.shape for image in images.values()}) == 2, "volumes keep their own sizes"
    for image in images.values():
        assert is_memory_mapped(image.array)
        inside = image.array[image.array != 0]
        assert (inside.mean(), inside.std()) == pytest.approx((0, 1), abs=1e-3)
        # Of water, organ and clipped metal, not of 3000 HU and −1000.
        assert inside.max() < 4
        assert image.shape[0] < SHAPE[0], "the air around the body is cut off"

    checkpoint = catalog.load(f"target_evaluation.{CELL.name}.checkpoint")
    assert checkpoint.metadata["input"]["patch"] == list(PATCH)
    assert checkpoint.metadata["input"]["preprocessing"]["grid"] is None
    with safe_open(ct_project / "data/06_models/decathlon_ct/prior.safetensors", "pt") as prior:
        assert list(prior.keys())

    scores = pd.read_csv(ct_project / "data/08_reporting/decathlon_ct/scores.csv")
    assert len(scores) == 2 * 2
    assert scores["dsc"].between(0, 1).all()
    for name in scores["subject"].unique():
        own = catalog.load(f"target_evaluation.{CELL.name}.own_grid_predictions")[name]()
        assert own.shape == nib.load(ct_project / "data/01_raw/Task03_Liver/imagesTr" / f"{name}.nii.gz").shape
