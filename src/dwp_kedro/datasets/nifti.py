"""``NiftiDataset``: a scan or label map in the catalog."""

from __future__ import annotations

import base64
import io
import os
import uuid
from copy import deepcopy
from pathlib import PurePosixPath
from typing import Any

import fsspec
from kedro.io.core import (
    AbstractVersionedDataset,
    DatasetError,
    Version,
    get_filepath_str,
    get_protocol_and_path,
)
from kedro_datasets._typing import ImagePreview

from dwp_kedro.imaging.overlays import middle_slices
from dwp_kedro.imaging.volume import Volume, decode_volume, encode_volume, read_volume, write_volume


class NiftiDataset(AbstractVersionedDataset[Volume, Volume]):
    """Load and save ``.nii`` and ``.nii.gz`` files as :class:`~dwp_kedro.imaging.volume.Volume`.

    Files on this machine are opened lazily: the header is checked when the dataset loads, voxels are read
    when ``.array`` is first used. Files elsewhere are fetched through fsspec. A save is whole or does not
    happen.

    Example:
        ```yaml
        "{cohort}.{subject}.label":
          type: dwp_kedro.datasets.nifti.NiftiDataset
          filepath: data/02_intermediate/{cohort}/{subject}.nii.gz
          label: true
        ```
    """

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str],
        label: bool = False,
        ndim: int = 3,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a file.

        Args:
            filepath: POSIX path, or URL of any protocol that fsspec knows; ends in .nii or .nii.gz.
            label: the file is a label map: its voxels must be integers.
            ndim: number of axes; a file of other dimensions is refused.
            version: see Kedro's versioning; load None is the latest, save None a new one.
            credentials: for the file system, for example ``{"key": …, "secret": …}``.
            fs_args: further arguments of the file system.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.
        """
        protocol, path = get_protocol_and_path(filepath, version)
        self._protocol = protocol
        self._fs = fsspec.filesystem(protocol, **(deepcopy(credentials) or {}), **(deepcopy(fs_args) or {}))
        self._label = label
        self._ndim = ndim
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    def load(self) -> Volume:
        """Open the volume.

        Raises:
            VolumeError: the file cannot be used; Kedro wraps it in a DatasetError.
        """
        path = get_filepath_str(self._get_load_path(), self._protocol)
        if self._protocol == "file":
            return read_volume(path, label=self._label, ndim=self._ndim)
        return decode_volume(self._fs.cat_file(path), path, label=self._label, ndim=self._ndim)

    def save(self, data: Volume) -> None:
        """Write the volume to a temporary name, then rename it."""
        path = get_filepath_str(self._get_save_path(), self._protocol)
        if self._protocol == "file":
            write_volume(data, path)
        else:
            self._save_remote(encode_volume(data, path), path)
        self._invalidate_cache()

    def _save_remote(self, content: bytes, path: str) -> None:
        folder, name = path.rsplit("/", 1)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.pipe_file(temporary, content)
            self._fs.mv(temporary, path)
        finally:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)

    def preview(self) -> ImagePreview:
        """Middle slices of the three planes, as a base64 encoded PNG for Kedro-Viz."""
        buffer = io.BytesIO()
        middle_slices(self.load()).savefig(buffer, format="png", dpi=100)
        return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": self._filepath,
            "protocol": self._protocol,
            "label": self._label,
            "ndim": self._ndim,
            "version": self._version,
        }

    def _exists(self) -> bool:
        try:
            path = get_filepath_str(self._get_load_path(), self._protocol)
        except DatasetError:
            return False
        return bool(self._fs.exists(path))

    def _release(self) -> None:
        super()._release()
        self._invalidate_cache()

    def _invalidate_cache(self) -> None:
        self._fs.invalidate_cache(get_filepath_str(self._filepath, self._protocol))
