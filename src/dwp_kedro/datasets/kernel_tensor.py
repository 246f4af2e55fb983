"""``KernelTensorDataset``: the kernels of trained networks in the catalog."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from kedro.io.core import DatasetError
from kedro_datasets._typing import ImagePreview
from torch import Tensor

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.datasets.files import FileDataset
from dwp_kedro.datasets.safetensors_file import (
    METADATA_KEY,
    decode_safetensors,
    encode_safetensors,
    read_header,
)
from dwp_kedro.evaluation.figures import kernel_panels

_TENSORS = {"kernels", "network", "layer", "output_channel", "input_channel"}


class KernelTensorDataset(FileDataset[KernelTensor]):
    """Load and save a :class:`~dwp_kedro.bayes.kernels.KernelTensor` as one safetensors file.

    The file holds ``kernels`` (n, 3, 3, 3) float32 and, per row, ``network`` and ``layer`` (indices into the
    tables of names in the JSON metadata), ``output_channel`` and ``input_channel``, all int64. A save is
    whole or does not happen.

    Raises:
        DatasetError: on loading a file that does not hold kernels; the message names it and what to do.

    Example:
        ```yaml
        "prior_learning.{group}.kernels":
          type: dwp_kedro.datasets.KernelTensorDataset
          filepath: data/04_feature/kernels/{group}.safetensors
        ```
    """

    def load(self) -> KernelTensor:
        """Read kernels and provenance."""
        path = self._load_file()
        content = self._fs.cat_file(path)
        metadata = read_header(io.BytesIO(content), path)[METADATA_KEY]
        tensors = decode_safetensors(content, path)
        if tensors.keys() != _TENSORS or metadata.keys() != {"networks", "layers"}:
            raise DatasetError(
                f"{path} holds {sorted(tensors)}, not kernels with their provenance. It was saved by another "
                "dataset: delete it and run again the node that makes it."
            )
        if wrong := _find_wrong(tensors, metadata):
            raise DatasetError(f"{path} holds no kernels as this project writes them: {wrong}. Make it anew.")
        return KernelTensor(
            kernels=tensors["kernels"],
            network=[metadata["networks"][index] for index in tensors["network"].tolist()],
            layer=[metadata["layers"][index] for index in tensors["layer"].tolist()],
            output_channel=tensors["output_channel"],
            input_channel=tensors["input_channel"],
        )

    def save(self, data: KernelTensor) -> None:
        """Write the kernels to a temporary name, then rename it."""
        if data.kernels.dtype != torch.float32:
            raise DatasetError(f"kernels for {self._filepath} must be float32, got {data.kernels.dtype}")
        content = encode_kernels(data)
        self._save_atomically(lambda file: file.write(content))

    def preview(self, n_kernels: int = 24) -> ImagePreview:
        """Up to ``n_kernels`` kernels from all over the tensor, as a base64 encoded PNG for Kedro-Viz.

        Each kernel is its three 3×3 slices side by side.

        Raises:
            DatasetError: if the tensor is empty.
        """
        kernels = self.load().kernels
        if len(kernels) == 0:
            raise DatasetError(f"{self._filepath} holds no kernels: nothing to show.")
        rows = torch.linspace(0, len(kernels) - 1, min(n_kernels, len(kernels))).round().long()
        figure = kernel_panels({"kernels": kernels[rows].numpy()}, title=f"{len(rows)} of {len(kernels)}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return ImagePreview(base64.b64encode(buffer.getvalue()).decode("ascii"))


def encode_kernels(kernels: KernelTensor) -> bytes:
    """Return the bytes of the file of a kernel tensor."""
    networks, network = _indices(kernels.network)
    layers, layer = _indices(kernels.layer)
    return encode_safetensors(
        {
            "kernels": kernels.kernels,
            "network": network,
            "layer": layer,
            "output_channel": kernels.output_channel,
            "input_channel": kernels.input_channel,
        },
        {"networks": networks, "layers": layers},
    )


def _find_wrong(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """Say what is wrong with kernels and their provenance; nothing if all is right."""
    kernels, n = tensors["kernels"], tensors["kernels"].shape[:1]
    if kernels.dtype != torch.float32 or kernels.shape[1:] != (3, 3, 3):
        return f"kernels are {kernels.dtype} {tuple(kernels.shape)}, not float32 (n, 3, 3, 3)"
    for name in sorted(_TENSORS - {"kernels"}):
        if tensors[name].dtype != torch.int64 or tensors[name].shape != n:
            return f"{name} is {tensors[name].dtype} {tuple(tensors[name].shape)}, not int64 {tuple(n)}"
    for name in ("network", "layer"):
        names, rows = metadata[f"{name}s"], tensors[name]
        if not isinstance(names, list) or not all(isinstance(entry, str) for entry in names):
            return f"{name}s are no list of names"
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(names):
            return f"{name} points outside its {len(names)} names"
    return ""


def _indices(names: list[str]) -> tuple[list[str], Tensor]:
    """Give the distinct ``names`` in order of appearance, and each row's index (n,) int64 into them."""
    table = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return list(table), torch.tensor([table[name] for name in names], dtype=torch.int64)
