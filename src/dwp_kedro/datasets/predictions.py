"""``PredictionsDataset``: a folder of predicted scans, taken up where an earlier run stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
from kedro.io.core import AbstractDataset, DatasetError

from dwp_kedro.datasets.files import write_atomically
from dwp_kedro.imaging.predicted_scan import RECORD_SUFFIX, VOLUME_COLUMNS, PredictedScan, ScanToPredict

TABLE = "volumes.csv"
_logger = logging.getLogger(__name__)


class PredictionsDataset(AbstractDataset[Iterable[ScanToPredict], pd.DataFrame]):
    """Save scans one at a time, each computed only if need be; load the table of their volumes.

    Files of a scan are called ``<name>_…``, and ``<name>_prediction.json`` says which they are and what they
    depend on (a fingerprint of scan, checkpoint and settings). A scan with the same fingerprint and all its files
    is not computed again. ``volumes.csv`` lists the scans of the last run, and is written anew after every scan,
    so that it is right also when a run is stopped. Every file is whole or not there.

    Files that this class did not write are never replaced: a scan whose files would is listed with that problem.

    Example:
        ```yaml
        prediction.predictions:
          type: dwp_kedro.datasets.PredictionsDataset
          path: data/07_model_output/new_scans
        ```
    """

    def __init__(self, *, path: str, overwrite: bool = False, metadata: dict[str, Any] | None = None) -> None:
        """Point to a folder.

        Args:
            path: local folder; it is made at the first save.
            overwrite: compute also what is there and up to date.
            metadata: ignored by Kedro, read by plugins such as Kedro-Viz.

        Raises:
            DatasetError: if the path has a ~, which no shell has replaced, or ``overwrite`` is no truth value.
        """
        if "~" in Path(path).parts:
            raise DatasetError(
                f"output: {path} has a ~ in it, which stands for nothing here; write the path in full"
            )
        if not isinstance(overwrite, bool):
            raise DatasetError(f"overwrite: {overwrite!r} is neither true nor false")
        self._path = Path(path)
        self._overwrite = overwrite
        self._fs = fsspec.filesystem("file")
        self.metadata = metadata
        super().__init__()

    def save(self, data: Iterable[ScanToPredict]) -> None:
        """Compute and write every scan that is not there; those with a problem get a row that says so."""
        rows: list[dict[str, Any]] = []
        for scan in data:
            rows += self._save_scan(scan)
            table = pd.DataFrame(rows, columns=list(VOLUME_COLUMNS)).astype({"components": "Int64"})
            self._write(TABLE, table.to_csv(index=False).encode())

    def load(self) -> pd.DataFrame:
        """Read the table, with the columns of ``VOLUME_COLUMNS``."""
        text = {"name": str, "class": str, "volume_unit": str, "note": str, "problem": str}
        # Else a scan called NA, or no problem at all, would become a missing value.
        table = pd.read_csv(self._path / TABLE, dtype=text, keep_default_na=False, na_values={
            column: [""] for column in ("volume", "components", "mean_uncertainty", "seconds")
        })  # fmt: skip
        return table.astype({"components": "Int64"})

    def _save_scan(self, scan: ScanToPredict) -> list[dict[str, Any]]:
        record, fingerprint = self._record(scan.name), scan.fingerprint()
        is_up_to_date = bool(fingerprint) and record.get("fingerprint") == fingerprint
        if is_up_to_date and not self._overwrite and self._has_files(scan.name, record["files"]):
            rows: list[dict[str, Any]] = record["rows"]
            return rows
        predicted = scan.predict()
        if not predicted.files:
            return predicted.rows
        return self._write_scan(scan.name, fingerprint, predicted, old=record.get("files", []))

    def _write_scan(
        self, name: str, fingerprint: str, predicted: PredictedScan, old: list[str]
    ) -> list[dict[str, Any]]:
        strange = [s for s in predicted.files if s not in old and (self._path / f"{name}_{s}").exists()]
        if strange:
            problem = (
                f"{self._path / f'{name}_{strange[0]}'} is there already and was not written by this pipeline; "
                "choose another output folder"
            )
            _logger.warning("%s is skipped: %s", name, problem)
            return [{"name": name, "problem": problem}]
        files = sorted({*old, *predicted.files})
        # From here on until the end, none of the scan's files counts as up to date.
        self._write_record(name, {"fingerprint": None, "files": files})
        for suffix in files:
            if suffix in predicted.files:
                self._write(f"{name}_{suffix}", predicted.files[suffix])
            else:
                (self._path / f"{name}_{suffix}").unlink(missing_ok=True)
        self._write_record(
            name, {"fingerprint": fingerprint, "files": sorted(predicted.files), "rows": predicted.rows}
        )
        return predicted.rows

    def _has_files(self, name: str, suffixes: Iterable[str]) -> bool:
        return all((self._path / f"{name}_{suffix}").is_file() for suffix in suffixes)

    def _record(self, name: str) -> dict[str, Any]:
        file = self._path / f"{name}{RECORD_SUFFIX}"
        if not file.is_file():
            return {}
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return record

    def _write_record(self, name: str, record: dict[str, Any]) -> None:
        self._write(f"{name}{RECORD_SUFFIX}", json.dumps(record, indent=1, ensure_ascii=False).encode())

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self._fs, (self._path / name).as_posix(), lambda file: file.write(content))

    def _exists(self) -> bool:
        # What is there may be of other scans or another network: only a run can tell, scan by scan.
        return False

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path.as_posix(), "overwrite": self._overwrite}
