"""What the catalog says of a dataset besides its data: its layer, its place."""

from __future__ import annotations

from pathlib import Path

from kedro.io import CatalogProtocol

from dwp_kedro.lineage.present import path_of


def layer_of(catalog: CatalogProtocol, name: str) -> str | None:
    """Return the layer in which Kedro-Viz shows a dataset, for example reporting; None if it has none."""
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    return metadata.get("kedro-viz", {}).get("layer")


def local_path(catalog: CatalogProtocol, name: str) -> Path | None:
    """Return a dataset's file or folder on this machine; None if it has none, or has versions."""
    return path_of(catalog.get(name))


def path_in(folder: Path, path: Path) -> Path:
    """Return a path as it is written in ``folder``: relative, if it lies there."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path
