"""The report as a catalog entry: one HTML page, with a picture of it for Kedro-Viz."""

from __future__ import annotations

import re

from kedro.io.core import DatasetError
from kedro_datasets._typing import ImagePreview

from dwp_kedro.datasets.files import FileDataset

_EMBEDDED_PICTURE = re.compile(r'<img[^>]* src="data:image/png;base64,([A-Za-z0-9+/=\s]+)"')


class ReportDataset(FileDataset[str]):
    """A self-contained HTML page, UTF-8; written whole or not at all."""

    def load(self) -> str:
        """Return the page's source."""
        return self._fs.read_text(self._load_file(), encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the page to a temporary name, then rename it."""
        self._save_atomically(lambda file: file.write(data.encode("utf-8")))

    def preview(self) -> ImagePreview:
        """Return the first picture embedded in the page, a base64 encoded PNG.

        Raises:
            DatasetError: if the page holds none.
        """
        found = _EMBEDDED_PICTURE.search(self.load())
        if found is None:
            raise DatasetError(f"{self._load_file()} holds no picture to show; open it in a browser")
        return ImagePreview(found.group(1))
