"""What the catalog says of a dataset besides its data: its layer, its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol


def layer_of(catalog: CatalogProtocol, name: str) -> str | None:
    """Return the layer in which Kedro-Viz shows a dataset, for example reporting; None if it has none."""
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    return metadata.get("kedro-viz", {}).get("layer")


def local_path(catalog: CatalogProtocol, name: str) -> Path | None:
    """Return a dataset's file or folder on this machine; None if it has none, or has versions."""
    dataset: Any = catalog.get(name)
    # A dataset has the one, a dataset of partitions or of predictions the other.
    place = getattr(dataset, "_filepath", getattr(dataset, "_path", None))
    has_versions = getattr(dataset, "_version", None) is not None
    if place is None or has_versions or getattr(dataset, "_protocol", "file") != "file":
        return None
    return Path(str(place))


def path_in(folder: Path, path: Path) -> Path:
    """Return a path as it is written in ``folder``: relative, if it lies there."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path
