"""``CheckpointsDataset``: one or several checkpoints that the run names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError

from dwp_kedro.datasets.checkpoint import CheckpointDataset
from dwp_kedro.networks.checkpoint import Checkpoint


class CheckpointsDataset(AbstractDataset[NoReturn, list[Checkpoint]]):
    """Load checkpoints from files that are known only when a run begins; read only.

    Example:
        ```yaml
        prediction.checkpoints:
          type: dwp_kedro.datasets.CheckpointsDataset
        ```
    """

    def __init__(self, *, filepaths: Sequence[str] = (), metadata: dict[str, Any] | None = None) -> None:
        """Name the files, unless :meth:`point_to` will.

        Args:
            filepaths: of safetensors files that ``CheckpointDataset`` wrote.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.
        """
        self._filepaths = list(filepaths)
        self.metadata = metadata
        super().__init__()

    def point_to(self, filepaths: Sequence[str]) -> None:
        """Name the files."""
        self._filepaths = list(filepaths)

    def load(self) -> list[Checkpoint]:
        """Read all files, in their order."""
        if not self._filepaths:
            raise DatasetError("no checkpoint is named; say which, for example --params checkpoint=FILE")
        return [CheckpointDataset(filepath=path).load() for path in self._filepaths]

    def save(self, data: NoReturn) -> None:
        """Refuse: the files are others'."""
        raise DatasetError("checkpoints are saved one by one, through CheckpointDataset")

    def _exists(self) -> bool:
        return bool(self._filepaths) and all(Path(path).is_file() for path in self._filepaths)

    def _describe(self) -> dict[str, Any]:
        return {"filepaths": self._filepaths}
