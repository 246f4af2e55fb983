"""Tensors with plain JSON beside them, in one safetensors file that other programs can read too."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import safetensors.torch
import torch
from kedro.io.core import DatasetError
from safetensors import SafetensorError
from torch import Tensor

METADATA_KEY = "metadata"
_MAX_HEADER_BYTES = 100_000_000  # The format's own limit.


def encode_safetensors(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> bytes:
    """Turn tensors and metadata into the bytes of a safetensors file.

    Tensors may lie on any device, be views or share memory; each is written out in full.

    Raises:
        TypeError: if the metadata are not plain JSON.
    """
    owned = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(owned, metadata={METADATA_KEY: json.dumps(metadata)})


def read_header(file: BinaryIO, path: str) -> dict[str, Any]:
    """Read the header: ``dtype`` and ``shape`` by tensor name, and our metadata under ``METADATA_KEY``.

    Raises:
        DatasetError: if ``file`` is no safetensors file, or was not written by this project.
    """
    length = int.from_bytes(file.read(8), "little")
    try:
        if length > _MAX_HEADER_BYTES:
            raise ValueError("its header is too long")
        header = _load_json_object(file.read(length))
        texts = header.pop("__metadata__", {})
        if not isinstance(texts, dict) or not all(_describes_tensor(entry) for entry in header.values()):
            raise ValueError("its header is not one of safetensors")
    except ValueError as error:
        raise _not_safetensors(path, error) from None
    if METADATA_KEY not in texts:
        raise DatasetError(
            f"{path} is a safetensors file without the metadata this project writes (header key "
            f"'{METADATA_KEY}'). Point the catalog at a file that this project wrote, or save the tensors "
            "again through this dataset."
        )
    try:
        return {"tensors": header, METADATA_KEY: _load_json_object(texts[METADATA_KEY])}
    except ValueError as error:
        raise DatasetError(
            f"{path} has metadata that are no JSON object ({error}), so this project did not write it. Ask its "
            "owner for the file again, or make it anew."
        ) from None


def decode_safetensors(content: bytes, path: str) -> dict[str, Tensor]:
    """Read all tensors; ``path`` names the file in the error.

    Raises:
        DatasetError: if ``content`` is not a whole safetensors file, or has a data type that PyTorch has not.
    """
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, KeyError) as error:
        raise _not_safetensors(path, error) from None


def _load_json_object(text: Any) -> dict[str, Any]:
    """Parse JSON that must be an object.

    Raises:
        ValueError: It is anything else.
    """
    if not isinstance(text, str | bytes):
        raise ValueError(f"a {type(text).__name__} where a text is meant")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} where an object is meant")
    return value


def _describes_tensor(entry: Any) -> bool:
    return isinstance(entry, dict) and {"dtype", "shape"} <= entry.keys()


def _not_safetensors(path: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{path} is not a whole safetensors file ({error}). Delete it and run again the node that makes it, "
        "for example with 'kedro run --only-missing-outputs'. Pickled weights (.pt, .pth) are never opened."
    )
