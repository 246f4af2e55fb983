"""Kinds of files in the catalog that Kedro does not bring: volumes, checkpoints, kernels."""

from dwp_kedro.datasets.checkpoint import CheckpointDataset
from dwp_kedro.datasets.checkpoints import CheckpointsDataset
from dwp_kedro.datasets.kernel_tensor import KernelTensorDataset
from dwp_kedro.datasets.nifti import NiftiDataset
from dwp_kedro.datasets.predictions import PredictionsDataset
from dwp_kedro.datasets.report import ReportDataset
from dwp_kedro.datasets.volumes import VolumesDataset

__all__ = [
    "CheckpointDataset",
    "CheckpointsDataset",
    "KernelTensorDataset",
    "NiftiDataset",
    "PredictionsDataset",
    "ReportDataset",
    "VolumesDataset",
]
