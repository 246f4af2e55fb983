"""A network that finds what is bright, and scans with a bright ball, however they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import NewScansParameters
from dwp_kedro.pipelines import predictor as module
from dwp_kedro.pipelines.predictor import Predictor, Segmentation
from dwp_kedro.training.settings import Compute

CENTRE = np.array([6.0, -4.0, 9.0])  # of the blob, mm
RADIUS = 9.0
PREPROCESSING = {"spacing": [2, 2, 2], "grid": [40, 40, 40], "foreground_threshold": None}


class Bright(nn.Module):
    """Class 1 where it is brighter than half of the brightest; class 2, if asked for, from 7 eighths of it on."""

    def __init__(self, sharpness: float = 30.0, n_classes: int = 1) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.n_classes = n_classes

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :1]
        level = (x - x.min()) / (x.max() - x.min())
        logits = [self.sharpness * (level - 0.5 - 0.25 * k) * (1 + 2 * k) for k in range(self.n_classes)]
        return torch.cat([torch.zeros_like(x), *logits], 1)


def checkpoint(**given: Any) -> Checkpoint:
    input_ = {"channels": 1, "class_names": ["blob"], "spacing": "header", "preprocessing": PREPROCESSING}
    cell = {"method": "ri", "n_train": 2, "split": 0, "seed": 0}
    return Checkpoint({"w": torch.zeros(2)}, {"components": 1, "cell": cell, "input": {**input_, **given}})


def make_predictor(*networks: nn.Module, new_scans: dict[str, Any] | None = None, **input_: Any) -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "rebuild", lambda _: list(networks or (Bright(),)))
        return Predictor(
            [checkpoint(**input_)],
            NewScansParameters.model_validate(new_scans or {}),
            Compute(device="cpu", precision="32-true"),
        )


def distances(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    places = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return np.linalg.norm(places - CENTRE, axis=-1)


def store(path: Path, shape: tuple[int, ...], affine: np.ndarray, radius: float = RADIUS) -> nib.Nifti1Image:
    array = np.clip((radius - distances(shape, affine)) / 2 + 0.5, 0, 1) * 1000 + 100
    image = nib.Nifti1Image(array.astype(np.int16), affine)
    nib.save(image, path)
    return image


def centred(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An affine whose grid has the blob near its middle."""
    return nib.affines.from_matvec(matrix, CENTRE + 2 - matrix @ (np.array(shape) / 2))


def two_class_scan(tmp_path: Path, cohort: Any = "header", **new_scans: Any) -> tuple[Predictor, Segmentation]:
    store(tmp_path / "scan.nii", (30, 30, 30), centred(np.diag([2.0, 2.0, 1.5]), (30, 30, 30)), radius=10)
    predictor = make_predictor(
        Bright(n_classes=2), Bright(n_classes=2), class_names=["rim", "core"], spacing=cohort, new_scans=new_scans
    )
    return predictor, predictor.segment([tmp_path / "scan.nii"])
