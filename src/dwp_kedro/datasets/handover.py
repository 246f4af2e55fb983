"""Files that are handed to others: written all or none, and never silently in another one's place."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from operator import methodcaller
from typing import Any, NoReturn

from kedro.io.core import DatasetError, get_filepath_str

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.datasets.checkpoint import encode_checkpoint
from dwp_kedro.datasets.files import FileDataset, write_atomically
from dwp_kedro.datasets.kernel_tensor import encode_kernels
from dwp_kedro.networks.checkpoint import Checkpoint


class HandoverDataset(FileDataset[dict[str, Any]]):
    """Write files that belong together, beside one another.

    What is saved is a dictionary: keys are added to ``filepath`` and give the files' paths; values are a
    checkpoint, kernels, a dictionary (JSON), a text, or a function that makes a text from the bytes of the
    first file. If a file of another content is there, nothing is written; the same bytes may be written again.

    Raises:
        DatasetError: on saving where other files are, unless ``overwrite`` is true; the message lists them. On
            loading: what was handed over is for others.

    Example:
        ```yaml
        export_prior.files: # {"": checkpoint, ".md": text}
          type: dwp_kedro.datasets.handover.HandoverDataset
          filepath: prior.safetensors
          ending: .safetensors
        ```
    """

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str],
        ending: str = "",
        overwrite: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Point to a place.

        Args:
            filepath: what the files' paths begin with, as POSIX path, or URL of any protocol that fsspec knows.
            ending: of ``filepath``, by which those who receive the file know it.
            overwrite: replace other files that are there.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.
        """
        super().__init__(filepath=filepath, metadata=metadata)
        self._ending = ending
        self._overwrite = overwrite

    def load(self) -> NoReturn:
        """Refuse."""
        raise DatasetError(f"{self._filepath} is handed over; nothing here reads it")

    def save(self, data: dict[str, Any]) -> None:
        """Write all files, each to a temporary name that is then renamed."""
        place = get_filepath_str(self._get_save_path(), self._protocol)
        if not place.endswith(self._ending):
            raise DatasetError(f"{place} must end in {self._ending}, by which those who receive it know it.")
        if not isinstance(self._overwrite, bool):
            raise DatasetError(f"overwrite is {self._overwrite!r}: say true or false.")
        contents = {place + added: content for added, content in _encode_all(data).items()}
        others = [path for path, content in contents.items() if self._is_another(path, content)]
        if others and not self._overwrite:
            raise DatasetError(
                "\n  ".join(["Nothing was written: these files are there already and are others:", *others])
                + "\nName another output, or say overwrite=true to replace them."
            )
        for path, content in contents.items():
            write_atomically(self._fs, path, methodcaller("write", content))
        self._invalidate_cache()

    def _exists(self) -> bool:
        return False  # only the contents tell whether what is there is what will be saved

    def _is_another(self, path: str, content: bytes) -> bool:
        return bool(self._fs.exists(path)) and self._fs.cat_file(path) != content


def _encode_all(data: Mapping[str, Any]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for name, value in data.items():
        if callable(value):
            value = value(next(iter(contents.values())))
        if isinstance(value, Checkpoint):
            contents[name] = encode_checkpoint(value)
        elif isinstance(value, KernelTensor):
            contents[name] = encode_kernels(value)
        elif isinstance(value, str):
            contents[name] = value.encode()
        else:
            contents[name] = (json.dumps(value, indent=2) + "\n").encode()
    return contents
