"""``CheckpointDataset``: trained weights in the catalog."""

from __future__ import annotations

import io
import json

from kedro_datasets._typing import JSONPreview

from dwp_kedro.datasets.files import FileDataset
from dwp_kedro.datasets.safetensors_file import (
    METADATA_KEY,
    decode_safetensors,
    encode_safetensors,
    read_header,
)
from dwp_kedro.networks.checkpoint import Checkpoint


class CheckpointDataset(FileDataset[Checkpoint]):
    """Load and save a :class:`~dwp_kedro.networks.checkpoint.Checkpoint` as one safetensors file.

    The tensors come back bit for bit, on the CPU; the metadata lie as JSON in the file's header, under the
    key ``metadata``. Nothing is ever pickled. A save is whole or does not happen.

    Raises:
        DatasetError: on loading a file that is not safetensors; the message names it and what to do.

    Example:
        ```yaml
        "source_training.{network}.checkpoint":
          type: dwp_kedro.datasets.CheckpointDataset
          filepath: data/06_models/source_training/{network}.safetensors
        ```

        >>> import torch
        >>> dataset = CheckpointDataset(filepath="memory://models/network.safetensors")
        >>> dataset.save(Checkpoint({"weight": torch.ones(2)}, {"seed": 0}))
        >>> dataset.load().metadata
        {'seed': 0}
    """

    def load(self) -> Checkpoint:
        """Read weights and metadata."""
        path = self._load_file()
        content = self._fs.cat_file(path)
        header = read_header(io.BytesIO(content), path)
        return Checkpoint(decode_safetensors(content, path), header[METADATA_KEY], source=path)

    def save(self, data: Checkpoint) -> None:
        """Write the checkpoint to a temporary name, then rename it."""
        content = encode_checkpoint(data)
        self._save_atomically(lambda file: file.write(content))

    def preview(self) -> JSONPreview:
        """Metadata, and dtype and shape of every tensor, as JSON for Kedro-Viz; reads the header only."""
        path = self._load_file()
        with self._fs.open(path, "rb") as file:
            header = read_header(file, path)
        tensors = {name: f"{entry['dtype']} {entry['shape']}" for name, entry in header["tensors"].items()}
        return JSONPreview(json.dumps({METADATA_KEY: header[METADATA_KEY], "tensors": tensors}))


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint's file."""
    return encode_safetensors(checkpoint.weights, checkpoint.metadata)
