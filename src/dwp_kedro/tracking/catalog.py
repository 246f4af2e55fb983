"""What the catalog says of a dataset besides its data."""

from __future__ import annotations

from kedro.io import CatalogProtocol


def layer_of(catalog: CatalogProtocol, name: str) -> str | None:
    """Return the layer in which Kedro-Viz shows a dataset, for example reporting; None if it has none."""
    metadata = getattr(catalog.get(name), "metadata", None) or {}
    return metadata.get("kedro-viz", {}).get("layer")
