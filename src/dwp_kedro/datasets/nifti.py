"""``NiftiDataset``: a scan or label map in the catalog."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

from kedro.io.core import Version, get_filepath_str
from kedro_datasets._typing import ImagePreview

from dwp_kedro.datasets.files import FileDataset
from dwp_kedro.imaging.overlays import middle_slices
from dwp_kedro.imaging.volume import Volume, decode_volume, encode_volume, read_volume


class NiftiDataset(FileDataset[Volume]):
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
        super().__init__(
            filepath=filepath, version=version, credentials=credentials, fs_args=fs_args, metadata=metadata
        )
        self._label = label
        self._ndim = ndim

    def load(self) -> Volume:
        """Open the volume.

        Raises:
            VolumeError: the file cannot be used; Kedro wraps it in a DatasetError.
        """
        path = self._load_file()
        if self._protocol == "file":
            return read_volume(path, label=self._label, ndim=self._ndim)
        return decode_volume(self._fs.cat_file(path), path, label=self._label, ndim=self._ndim)

    def save(self, data: Volume) -> None:
        """Write the volume to a temporary name, then rename it."""
        name = get_filepath_str(self._get_save_path(), self._protocol)
        content = encode_volume(data, name)
        self._save_atomically(lambda file: file.write(content))

    def preview(self) -> ImagePreview:
        """Middle slices of the three planes, as a base64 encoded PNG for Kedro-Viz."""
        buffer = io.BytesIO()
        middle_slices(self.load()).savefig(buffer, format="png", dpi=100)
        return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "label": self._label, "ndim": self._ndim}
