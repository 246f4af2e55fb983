"""``VolumesDataset``: a folder of scans or label maps in the catalog."""

from __future__ import annotations

import inspect
import os
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io.core import DatasetError
from kedro_datasets._typing import ImagePreview
from kedro_datasets.partitions import PartitionedDataset

from dwp_kedro.atomic_write import atomic_folder
from dwp_kedro.datasets.nifti import NiftiDataset


class VolumesDataset(PartitionedDataset):
    """Kedro's ``PartitionedDataset`` of NIfTI files, with a picture for Kedro-Viz, which that one lacks.

    Partitions load lazily. Those given as functions are computed one at a time, in the order of their ids, when
    they are saved. A save replaces the folder, which then holds these partitions and no others: on the local file
    system whole or not at all.

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
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a folder.

        Args:
            path: POSIX path, or URL of any protocol that fsspec knows.
            label: all partitions are label maps: their voxels must be integers.
            filename_suffix: what a file's name has after the partition's id: .nii.gz or .nii.
            credentials: for the file system, for example ``{"key": …, "secret": …}``.
            fs_args: further arguments of the file system.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.
        """
        super().__init__(
            path=str(path),
            dataset={"type": NiftiDataset, "label": label},
            filename_suffix=filename_suffix,
            overwrite=True,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )

    def save(self, data: dict[str, Any]) -> None:
        """Write the partitions to a temporary folder, then put that in the place of the one that is there.

        Raises:
            WriteError: if the disk is full, or the place must not be written to.
        """
        save = inspect.unwrap(super().save)  # Kedro's checks and messages are around this method already.
        if self._protocol != "file":
            save(self, data)
            return
        with atomic_folder(Path(self._filesystem._strip_protocol(self._path))) as temporary:
            save(self._copy(_path=str(temporary), _overwrite=False), data)
        self._invalidate_caches()

    def preview(self) -> ImagePreview:
        """Middle slices of the first image, or of the first partition if there is none that is called image."""
        paths = sorted(self._list_partitions())
        if not paths:
            raise DatasetError(f"{self._path} holds no volumes: nothing to show.")
        images = [path for path in paths if PurePosixPath(path).name.startswith("image")]
        filepath = self._join_protocol((images or paths)[0])
        return self._dataset_type(**{**self._dataset_config, self._filepath_arg: filepath}).preview()
