"""``VolumesDataset``: a folder of scans or label maps in the catalog."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

from kedro.io.core import DatasetError
from kedro_datasets._typing import ImagePreview
from kedro_datasets.partitions import PartitionedDataset

from dwp_kedro.datasets.nifti import NiftiDataset


class VolumesDataset(PartitionedDataset):
    """Kedro's ``PartitionedDataset`` of NIfTI files, with a picture for Kedro-Viz, which that one lacks.

    Partitions load lazily. Those given as functions are computed one at a time, in the order of their ids, when
    they are saved.

    Example:
        ```yaml
        "{cohort}.volumes":
          type: dwp_kedro.datasets.VolumesDataset
          path: data/03_primary/{cohort}
        ```
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        label: bool = False,
        filename_suffix: str = ".nii.gz",
        overwrite: bool = False,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a folder.

        Args:
            path: POSIX path, or URL of any protocol that fsspec knows.
            label: all partitions are label maps: their voxels must be integers.
            filename_suffix: what a file's name has after the partition's id: .nii.gz or .nii.
            overwrite: remove what is in the folder before a save.
            credentials: for the file system, for example ``{"key": …, "secret": …}``.
            fs_args: further arguments of the file system.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.
        """
        super().__init__(
            path=str(path),
            dataset={"type": NiftiDataset, "label": label},
            filename_suffix=filename_suffix,
            overwrite=overwrite,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )

    def preview(self) -> ImagePreview:
        """Middle slices of the first image, or of the first partition if there is none that is called image."""
        paths = sorted(self._list_partitions())
        if not paths:
            raise DatasetError(f"{self._path} holds no volumes: nothing to show.")
        images = [path for path in paths if PurePosixPath(path).name.startswith("image")]
        filepath = self._join_protocol((images or paths)[0])
        return self._dataset_type(**{**self._dataset_config, self._filepath_arg: filepath}).preview()
