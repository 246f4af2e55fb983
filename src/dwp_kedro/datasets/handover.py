"""Files that are handed to others: they never silently replace another file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from kedro.io.core import DatasetError, get_filepath_str

from dwp_kedro.datasets.checkpoint import CheckpointDataset
from dwp_kedro.datasets.files import FileDataset
from dwp_kedro.datasets.kernel_tensor import KernelTensorDataset


class _Handover(FileDataset[Any]):
    """A file that is written once; writing the same bytes again is no change."""

    def __init__(self, *, filepath: str | os.PathLike[str], overwrite: bool = False, **others: Any) -> None:
        """Point to a file.

        Args:
            filepath: POSIX path, or URL of any protocol that fsspec knows; ends in .safetensors.
            overwrite: replace another file that is there.
            others: ``version``, ``credentials``, ``fs_args``, ``metadata``, as for any file.
        """
        super().__init__(filepath=filepath, **others)
        self._overwrite = overwrite

    def _save_atomically(self, write: Callable[[BinaryIO], object]) -> None:
        path = get_filepath_str(self._get_save_path(), self._protocol)
        if not path.endswith(".safetensors"):
            raise DatasetError(f"{path} must end in .safetensors, by which those who receive it know it.")
        if not isinstance(self._overwrite, bool):
            raise DatasetError(f"overwrite is {self._overwrite!r}: say true or false.")
        buffer = io.BytesIO()
        write(buffer)
        content = buffer.getvalue()
        if not self._overwrite and self._fs.exists(path) and self._fs.cat_file(path) != content:
            raise DatasetError(
                f"{path} is there already and is another file. Name another output, or say overwrite=true."
            )
        super()._save_atomically(lambda file: file.write(content))


class HandoverCheckpointDataset(_Handover, CheckpointDataset):
    """A :class:`~dwp_kedro.datasets.checkpoint.CheckpointDataset` that refuses to replace another file.

    Raises:
        DatasetError: on saving where another file is, unless ``overwrite`` is true; the message names it.

    Example:
        ```yaml
        export_prior.prior:
          type: dwp_kedro.datasets.handover.HandoverCheckpointDataset
          filepath: prior.safetensors
        ```
    """


class HandoverKernelsDataset(_Handover, KernelTensorDataset):
    """A :class:`~dwp_kedro.datasets.kernel_tensor.KernelTensorDataset` that refuses to replace another file.

    Raises:
        DatasetError: on saving where another file is, unless ``overwrite`` is true; the message names it.

    Example:
        ```yaml
        "export_kernels.{group}":
          type: dwp_kedro.datasets.handover.HandoverKernelsDataset
          filepath: to_hand_over/{group}_kernels.safetensors
        ```
    """
