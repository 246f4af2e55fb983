"""The one way from the files of a new scan to its mask; the pipeline and the MLflow model share it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

import dwp_kedro
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.imaging.header_checks import check_placement
from dwp_kedro.imaging.lesion_picture import lesion_picture
from dwp_kedro.imaging.postprocessing import label_components, postprocess
from dwp_kedro.imaging.predicted_scan import (
    VOLUME_COLUMNS,
    PredictedScan,
    encode_like,
    probability_on_own_grid,
)
from dwp_kedro.imaging.preprocessing import declared_affine, preprocess_subject
from dwp_kedro.imaging.volume import Volume, VolumeError, read_volume
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.parameters import CohortParameters, InputParameters, NewScansParameters
from dwp_kedro.pipelines.architectures import rebuild
from dwp_kedro.pipelines.inference import make_inferer
from dwp_kedro.training.prediction import predict
from dwp_kedro.training.settings import Compute

_logger = logging.getLogger(__name__)
for _name in ("lightning.fabric", "lightning.pytorch"):  # They would tell of each scan what precision it took.
    logging.getLogger(_name).setLevel(logging.WARNING)

_SPACING_TOLERANCE = 1e-3
"""Relative; less is rounding, and changes no volume by more than 0.3 %."""


@dataclass(frozen=True)
class Segmentation:
    """What the networks say of one scan, on its own grid."""

    scan: Volume
    """Its first channel, with the header that all files get."""
    mask: np.ndarray
    """(x, y, z) uint8: 0 background, 1, 2, … the classes; post-processed."""
    probability: np.ndarray
    """(classes + 1, x, y, z) float32, background first; mean over passes."""
    uncertainty: np.ndarray | None
    """(x, y, z) float32: entropy of the mean probability, nats; None where there was but one pass."""
    note: str = ""
    """What its user must know of its numbers."""


class Predictor:
    """One network, plain or Bayesian, or an ensemble, with all that its scans must go through."""

    def __init__(self, checkpoints: Sequence[Checkpoint], settings: NewScansParameters, compute: Compute) -> None:
        """Rebuild the networks of the cells' ``checkpoints``; each network of an ensemble has the same weight.

        Raises:
            CheckpointError: a checkpoint is not one of a cell, or the checkpoints take different inputs.
        """
        inputs = [_input_of(checkpoint, settings) for checkpoint in checkpoints]
        for checkpoint, given in zip(checkpoints, inputs, strict=True):
            if given != inputs[0]:
                raise CheckpointError(
                    f"checkpoint: {_words(checkpoints[0])} and {_words(checkpoint)} take different inputs "
                    f"({_difference(inputs[0], given)}); an ensemble needs the same channels, classes, spacing "
                    "and preprocessing in all"
                )
        self.input = inputs[0]
        self._settings = settings
        self._compute = compute
        self._checkpoints = list(checkpoints)
        self._networks = [network for checkpoint in checkpoints for network in rebuild(checkpoint)]
        self._infer = make_inferer(settings.window, self.input.trained_on, self._networks)
        # What preprocessing asks of a cohort; a new scan has no reader, labels or name.
        self._cohort = CohortParameters.model_construct(
            spacing=self.input.spacing, preprocessing=self.input.preprocessing
        )

    @property
    def has_uncertainty(self) -> bool:
        """Whether several passes are averaged: weight samples, or networks."""
        is_sampled = self._settings.n_samples > 1 and any(isinstance(n, BayesianNetwork) for n in self._networks)
        return is_sampled or len(self._networks) > 1

    @cached_property
    def fingerprint(self) -> str:
        """Hash of networks, settings and this package's version, hexadecimal."""
        digest = hashlib.sha256()
        settings = {
            "version": dwp_kedro.__version__,
            "precision": self._compute.precision,
            "settings": self._settings.model_dump(mode="json"),
        }
        digest.update(json.dumps(settings, sort_keys=True).encode())
        for checkpoint in self._checkpoints:
            digest.update(json.dumps(checkpoint.metadata, sort_keys=True).encode())
            for name, tensor in sorted(checkpoint.weights.items()):
                digest.update(name.encode())
                digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def segment(self, images: Sequence[str | Path], name: str = "") -> Segmentation:
        """Segment the scan whose channels are in ``images``; messages call it ``name``, or else by its first file.

        Raises:
            VolumeError: a file cannot be used, or their number is not that of the network's channels.
        """
        if len(images) != self.input.channels:
            raise VolumeError(
                f"{images[0]}: {len(images)} channel(s), the network takes {self.input.channels}. Channels of one "
                "scan are files <name>_0000, <name>_0001, …, or the columns image_0, image_1, … of a CSV table, "
                "in which scans that only look like channels can also be listed one by one"
            )
        name = name or Path(images[0]).name
        volumes = [read_volume(image) for image in images]
        for volume in volumes:
            check_placement(volume, spacing_matters=self.input.spacing == "header")
        note = self._note(volumes[0])
        if note:
            _logger.warning("%s: %s", name, note)
        channels, _ = preprocess_subject(volumes, None, self._cohort)
        tensor = torch.from_numpy(np.stack([channel.array for channel in channels]))
        [prediction] = predict(
            self._networks,
            lambda _: tensor,
            1,
            task=f"predicting {name}",
            compute=self._compute,
            n_samples=self._settings.n_samples,
            infer=self._infer,
        )
        scan = volumes[0]
        probability = probability_on_own_grid(
            prediction.probability.numpy(), channels[0].affine, scan.shape, self._affine(scan)
        )
        mask = postprocess(
            probability.argmax(0).astype(np.uint8),
            len(self.input.class_names),
            self._settings.postprocessing,
            self._voxel_volume(scan),
        )
        uncertainty = None
        if self.has_uncertainty:
            uncertainty = torch.special.entr(torch.from_numpy(probability)).sum(0).numpy()
        return Segmentation(scan, mask, probability, uncertainty, note)

    def rows(self, name: str, segmentation: Segmentation, seconds: float) -> list[dict[str, Any]]:
        """Rows of ``volumes.csv``: one per class; volume in ml, or voxels where the spacing is unknown.

        There is no mean uncertainty where the mask is empty: it would be a mean over nothing.
        """
        rows = []
        for value, class_name in enumerate(self.input.class_names, start=1):
            inside = segmentation.mask == value
            count = int(inside.sum())
            uncertainty = segmentation.uncertainty
            values = (
                name,
                class_name,
                round(count * self._voxel_volume(segmentation.scan), 6),
                "voxel" if self.input.spacing == "unknown" else "ml",
                len(label_components(inside)[1]),
                float(uncertainty[inside].mean()) if uncertainty is not None and count else None,
                round(seconds, 2),
                segmentation.note,
                "",
            )
            rows.append(dict(zip(VOLUME_COLUMNS, values, strict=True)))
        return rows

    def files(self, name: str, segmentation: Segmentation) -> dict[str, bytes]:
        """Files to write of a scan, by what follows ``<name>_``: mask, probability, uncertainty, picture.

        The probability is that of the foreground, (x, y, z); of several classes, each of them in turn along a
        fourth axis, (x, y, z, classes).
        """
        scan, foreground = segmentation.scan, segmentation.probability[1:]
        probability = foreground[0] if len(foreground) == 1 else np.moveaxis(foreground, 0, -1)
        classes = ", ".join(
            f"{value} {of_class}" for value, of_class in enumerate(self.input.class_names, start=1)
        )
        files = {
            "mask.nii.gz": encode_like(segmentation.mask, scan, _shortened(f"mask: {classes}")),
            "probability.nii.gz": encode_like(probability, scan, _shortened(f"probability: {classes}")),
        }
        if segmentation.uncertainty is not None:
            files["uncertainty.nii.gz"] = encode_like(segmentation.uncertainty, scan, "predictive entropy, nats")
        if self._settings.pictures:
            affine = self._affine(scan)
            figure = lesion_picture(
                Volume.from_array(scan.array, affine),
                Volume.from_array(segmentation.mask, affine),
                self.input.class_names,
                name,
            )
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            files["overlay.png"] = buffer.getvalue()
        return files

    def predicted(self, name: str, images: Sequence[str | Path]) -> PredictedScan:
        """Segment a scan; return its rows and its files."""
        started = time.perf_counter()
        segmentation = self.segment(images, name)
        files = self.files(name, segmentation)
        return PredictedScan(self.rows(name, segmentation, time.perf_counter() - started), files)

    def _note(self, scan: Volume) -> str:
        """Say of a scan whose header contradicts the declared spacing which of them was taken."""
        declared = self.input.spacing
        if isinstance(declared, str) or np.allclose(scan.spacing, declared, rtol=_SPACING_TOLERANCE, atol=0):
            return ""
        by = "new_scans.spacing says" if self._settings.spacing else "the training cohort declared"
        return (
            f"voxels taken as {_millimetres(declared)}, as {by}; the header says {_millimetres(scan.spacing)}. If "
            "that is right, predict with new_scans.spacing=header"
        )

    def _affine(self, scan: Volume) -> np.ndarray:
        return declared_affine(scan, self.input.spacing)

    def _voxel_volume(self, scan: Volume) -> float:
        """Volume of a voxel, ml; 1 where the spacing is unknown."""
        if self.input.spacing == "unknown":
            return 1.0
        return float(abs(np.linalg.det(self._affine(scan)[:3, :3]))) / 1000


def _input_of(checkpoint: Checkpoint, settings: NewScansParameters) -> InputParameters:
    """Return what a checkpoint's networks take; the spacing of new scans is that of its cohort, unless said."""
    if "input" not in checkpoint.metadata or "components" not in checkpoint.metadata:
        raise CheckpointError(
            f"checkpoint: {_words(checkpoint)} does not say what its networks take, so no new scan can be brought "
            "to them. Give the checkpoint of a cell of target_evaluation; if it is one, train it anew"
        )
    try:
        input_ = InputParameters.model_validate(checkpoint.metadata["input"])
    except ValidationError as error:
        raise CheckpointError(
            f"checkpoint: {_words(checkpoint)} comes from another version of this project: {error}"
        ) from error
    return input_ if settings.spacing is None else input_.model_copy(update={"spacing": settings.spacing})


def _words(checkpoint: Checkpoint) -> str:
    """Name a checkpoint in an error by what its metadata say of it."""
    cell = checkpoint.metadata.get("cell")
    if isinstance(cell, dict):
        return f"that of {cell['method']} n{cell['n_train']} split{cell['split']} seed{cell['seed']}"
    return f"the file with the metadata {', '.join(checkpoint.metadata) or 'of nothing'}"


def _difference(first: InputParameters, second: InputParameters) -> str:
    one, other = first.model_dump(mode="json"), second.model_dump(mode="json")
    return "; ".join(f"{key}: {one[key]} and {other[key]}" for key in one if one[key] != other[key])


def _millimetres(spacing: Sequence[float]) -> str:
    return " × ".join(f"{side:.4g}" for side in spacing) + " mm"


def _shortened(text: str) -> str:
    """Cut a text to what a NIfTI header holds."""
    return text.encode()[:79].decode(errors="ignore")
