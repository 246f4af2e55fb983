"""Kedro's own datasets of one file, which write in place, made to write whole files or none.

Everything else of them is as it was: arguments, what they load, previews. Where the disk is full or the place must
not be written to, a save raises :class:`~dwp_kedro.atomic_write.WriteError`, which Kedro wraps in a DatasetError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, matplotlib, pandas, text

from dwp_kedro.atomic_write import atomic_file


def save_atomically(dataset: Any, save: Callable[[Any], None], data: Any) -> None:
    """Let ``save``, the method of ``dataset``'s base class, save to a temporary name, then rename that.

    On other file systems than the local one it saves as ever: stores of objects replace an object whole.
    """
    save_there: Callable[[Any, Any], None] = inspect.unwrap(save)  # Kedro wraps it once more: our classes' save.
    if dataset._protocol != "file":
        save_there(dataset, data)
        return
    with atomic_file(Path(dataset._get_save_path())) as temporary:
        save_there(dataset._copy(_filepath=PurePosixPath(temporary), _version=None), data)
    dataset._invalidate_cache()


class CSVDataset(pandas.CSVDataset):
    """A table, as ``pandas.CSVDataset`` reads and writes it."""

    def save(self, data: Any) -> None:
        """Write the table."""
        save_atomically(self, super().save, data)


class JSONDataset(json.JSONDataset):
    """Plain values, as ``json.JSONDataset`` reads and writes them."""

    def save(self, data: Any) -> None:
        """Write the values."""
        save_atomically(self, super().save, data)


class MatplotlibDataset(matplotlib.MatplotlibDataset):
    """A picture of one figure, as ``matplotlib.MatplotlibDataset`` draws it."""

    def save(self, data: Any) -> None:
        """Draw the figure."""
        save_atomically(self, super().save, data)


class TextDataset(text.TextDataset):
    """A text, as ``text.TextDataset`` reads and writes it."""

    def save(self, data: Any) -> None:
        """Write the text."""
        save_atomically(self, super().save, data)
