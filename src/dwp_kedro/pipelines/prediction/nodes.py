"""Nodes that segment new scans."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from dwp_kedro.imaging.predicted_scan import PredictedScan, ScanToPredict
from dwp_kedro.imaging.volume import VolumeError
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import ComputeParameters, NewScansParameters
from dwp_kedro.pipelines.core import compute_settings
from dwp_kedro.pipelines.new_scans import NewScan, NewScansError, list_new_scans
from dwp_kedro.pipelines.plan import project_path
from dwp_kedro.pipelines.predictor import Predictor
from dwp_kedro.progress import track

_logger = logging.getLogger(__name__)
_BAD_SCAN = (VolumeError, OSError, MemoryError, RuntimeError)
"""What a scan can do to its prediction: unusable files, or too large for memory (torch's RuntimeError)."""


def find_scans(images: str) -> list[NewScan]:
    """List the scans to predict; a relative path starts in the project's folder.

    Raises:
        NewScansError: ``images`` is not given, or names no scan.
    """
    if not isinstance(images, str) or not images:
        raise NewScansError(
            f"images is {images!r}: say which scans, for example --params images=/data/new_scans; a path that "
            "looks like a number is ./2024, one with a comma, ' #' or ': ' in it goes into an environment's "
            "parameters.yml"
        )
    return list_new_scans(Path(project_path(images)))


def predict_scans(
    scans: Sequence[NewScan],
    checkpoints: Sequence[Checkpoint],
    settings: NewScansParameters,
    compute: ComputeParameters,
) -> WaitingScans:
    """Prepare the prediction of every scan; each is computed when it is saved, unless it is there already.

    A warning is logged where cells of different draws are averaged: that is for scans from outside their cohort.
    """
    cells = [checkpoint.metadata.get("cell") for checkpoint in checkpoints]
    draws = {str(cell["split"]) for cell in cells if isinstance(cell, dict)}
    if len(draws) > 1:
        _logger.warning(
            "The checkpoints come from the draws %s of the training scans. A test scan of one may have trained "
            "another: average them on new scans only, on none of their cohort.",
            ", ".join(sorted(draws)),
        )
    return WaitingScans(scans, Predictor(checkpoints, settings, compute_settings(compute)))


class WaitingScans:
    """Scans to predict one after the other, for the dataset that saves them."""

    def __init__(self, scans: Sequence[NewScan], predictor: Predictor) -> None:
        self._scans = scans
        self._predictor = predictor

    def __iter__(self) -> Iterator[ScanToPredict]:
        for scan in track(self._scans, "new scans"):
            yield self._waiting(scan)

    def _waiting(self, scan: NewScan) -> ScanToPredict:
        return ScanToPredict(scan.name, lambda: self._fingerprint(scan), lambda: self._predict(scan))

    def _predict(self, scan: NewScan) -> PredictedScan:
        problem = scan.problem
        if not problem:
            try:
                return self._predictor.predicted(scan.name, scan.images)
            except _BAD_SCAN as error:
                problem = str(error) or type(error).__name__
        _logger.warning("%s is skipped: %s", scan.name, problem)
        return PredictedScan([{"name": scan.name, "problem": problem}])

    def _fingerprint(self, scan: NewScan) -> str:
        """Hash of networks, settings and the bytes of the scan's files; "" where they cannot be read."""
        digest = hashlib.sha256(self._predictor.fingerprint.encode())
        if scan.problem:
            return ""
        try:
            for image in scan.images:
                path, _, channel = image.partition("#") if not Path(image).is_file() else (image, "", "")
                with open(path, "rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
                digest.update(channel.encode())
        except OSError:
            return ""  # The prediction, which reads the same files, says what is wrong.
        return digest.hexdigest()
