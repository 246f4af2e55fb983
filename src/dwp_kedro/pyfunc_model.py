"""A trained cell as an MLflow model: this file itself is what MLflow keeps and runs; nothing is pickled.

A model's folder holds a copy of this file and of the cell's checkpoint. Whoever loads it needs this package::

    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    [mask] = model.predict("new/patient_1.nii.gz")
    nibabel.save(mask, "patient_1_mask.nii.gz")
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import pandas as pd
from mlflow.pyfunc import PythonModel

from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.imaging.predicted_scan import encode_like
from dwp_kedro.imaging.volume import VolumeError
from dwp_kedro.parameters import NewScansParameters
from dwp_kedro.pipelines.predictor import Predictor
from dwp_kedro.training.settings import Compute


class SegmentationModel(PythonModel):
    """Gives the masks that the pipeline ``prediction`` writes.

    It does what the parameter block ``new_scans`` said when it was logged, unless ``load_model`` says otherwise:
    ``model_config={"n_samples": 0, "postprocessing": {"fill_holes": True}, "device": "cpu"}``.
    """

    def load_context(self, context: Any) -> None:
        """Rebuild the networks of the model's checkpoint."""
        settings = dict(context.model_config)
        compute = Compute(device=settings.pop("device"), precision=settings.pop("precision"))
        checkpoint = CheckpointDataset(filepath=context.artifacts["checkpoint"]).load()
        self._predictor = Predictor([checkpoint], NewScansParameters.model_validate(settings), compute)

    # MLflow lets a model leave out what it does not use, and its base class does not say so. This type of input
    # keeps MLflow from refusing all but lists; by the model's signature it makes a table of what it is given.
    def predict(self, model_input: pd.DataFrame) -> list[nib.Nifti1Image]:  # type: ignore[override]
        """Segment scans.

        Args:
            model_input: a row per scan, and in the first column its path, or where the network takes several
                channels, the paths of all, joined by ``|``. MLflow also takes one path as text, a list or array of
                paths, or a column (``table["image"]``).

        Returns:
            One image per scan, uint8: 0 background, 1, 2, … the classes, on the scan's own grid.

        Raises:
            VolumeError: a scan cannot be used; none is skipped.
        """
        return [self._mask(_paths(scan)) for scan in model_input.iloc[:, 0]]

    def _mask(self, paths: Sequence[str]) -> nib.Nifti1Image:
        segmentation = self._predictor.segment(paths)
        content = gzip.decompress(encode_like(segmentation.mask, segmentation.scan, "mask"))
        is_nifti2 = isinstance(segmentation.scan.header, nib.Nifti2Header)
        return (nib.Nifti2Image if is_nifti2 else nib.Nifti1Image).from_bytes(content)


def _paths(scan: object) -> list[str]:
    """Return the paths of a scan's channels.

    >>> _paths("t1.nii.gz|flair.nii.gz")
    ['t1.nii.gz', 'flair.nii.gz']
    """
    if not isinstance(scan, str | Path):
        raise VolumeError(
            f"{scan!r} is no path: a model takes paths of NIfTI files, one per scan, or several joined by |. Of a "
            "table it takes the first column; give it another by name, model.predict(table['image'])"
        )
    return str(scan).split("|")


mlflow.models.set_model(SegmentationModel())
