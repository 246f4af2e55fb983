from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from dwp_kedro.datasets import PredictionsDataset
from dwp_kedro.imaging.predicted_scan import VOLUME_COLUMNS, PredictedScan, ScanToPredict


class Scans:
    """Makes scans to save, and counts which were computed."""

    def __init__(self) -> None:
        self.computed: list[str] = []

    def one(
        self, name: str, fingerprint: str = "f", files: tuple[str, ...] = ("mask.nii.gz",), text: str = "x"
    ) -> ScanToPredict:
        row = {"name": name, "class": "c", "volume": 1.25, "volume_unit": "ml", "components": 2, "problem": ""}
        return self._make(name, fingerprint, PredictedScan([row], {file: text.encode() for file in files}))

    def bad(self, name: str) -> ScanToPredict:
        return self._make(name, "f", PredictedScan([{"name": name, "problem": "damaged, they say"}]))

    def _make(self, name: str, fingerprint: str, predicted: PredictedScan) -> ScanToPredict:
        def predict() -> PredictedScan:
            self.computed.append(name)
            return predicted

        return ScanToPredict(name, lambda: fingerprint, predict)


@pytest.fixture
def scans() -> Scans:
    return Scans()


@pytest.fixture
def open_folder(tmp_path: Path) -> Callable[..., PredictionsDataset]:
    return lambda **given: PredictionsDataset(path=str(tmp_path / "out"), **given)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_and_table_are_written(tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset]):
    dataset = open_folder()
    dataset.save([scans.one("NA"), scans.bad("b"), scans.one("c", files=("mask.nii.gz", "overlay.png"))])
    assert names_in(tmp_path / "out") == {
        "NA_mask.nii.gz", "NA_prediction.json", "c_mask.nii.gz", "c_overlay.png", "c_prediction.json",
        "volumes.csv",
    }  # fmt: skip
    table = dataset.load()
    assert tuple(table.columns) == VOLUME_COLUMNS
    assert table["name"].tolist() == ["NA", "b", "c"]
    assert table["problem"].tolist() == ["", "damaged, they say", ""]
    assert table["components"].tolist()[0] == 2
    assert pd.isna(table["components"].tolist()[1])
    assert table["volume"].tolist()[2] == 1.25
    assert "NA,c,1.25,ml,2,,,,\n" in (tmp_path / "out/volumes.csv").read_text()


def test_what_is_up_to_date_is_not_computed_again(scans: Scans, open_folder: Callable[..., PredictionsDataset]):
    open_folder().save([scans.one("a"), scans.one("b"), scans.bad("c")])
    first = open_folder().load()
    scans.computed.clear()
    open_folder().save([scans.one("a"), scans.one("b", "other"), scans.bad("c")])
    assert scans.computed == ["b", "c"]
    pd.testing.assert_frame_equal(open_folder().load(), first)
    scans.computed.clear()
    open_folder(overwrite=True).save([scans.one("a")])
    assert scans.computed == ["a"]


def test_a_missing_file_is_made_again(
    tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset]
):
    open_folder().save([scans.one("a")])
    (tmp_path / "out/a_mask.nii.gz").unlink()
    open_folder().save([scans.one("a")])
    assert scans.computed == ["a", "a"]
    assert (tmp_path / "out/a_mask.nii.gz").is_file()


def test_files_that_are_made_no_longer_go(
    tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset]
):
    open_folder().save([scans.one("a", files=("mask.nii.gz", "uncertainty.nii.gz"))])
    open_folder().save([scans.one("a", "other")])
    assert names_in(tmp_path / "out") == {"a_mask.nii.gz", "a_prediction.json", "volumes.csv"}


def test_files_of_others_are_never_replaced(
    tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset]
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a_mask.nii.gz").write_text("drawn by hand")
    open_folder(overwrite=True).save([scans.one("a"), scans.one("b")])
    assert (tmp_path / "out/a_mask.nii.gz").read_text() == "drawn by hand"
    problems = open_folder().load().set_index("name")["problem"]
    assert "a_mask.nii.gz is there already" in problems["a"]
    assert problems["b"] == ""


def test_a_run_that_is_stopped_keeps_what_it_did_and_goes_on(
    tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset], monkeypatch: pytest.MonkeyPatch
):
    def stop() -> PredictedScan:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_folder().save([scans.one("a"), ScanToPredict("b", lambda: "f", stop), scans.one("c")])
    assert open_folder().load()["name"].tolist() == ["a"]
    scans.computed.clear()
    open_folder().save([scans.one("a"), scans.one("b"), scans.one("c")])
    assert scans.computed == ["b", "c"]


def test_a_scan_that_is_half_written_is_computed_again(
    tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset], monkeypatch: pytest.MonkeyPatch
):
    both = ("mask.nii.gz", "probability.nii.gz")
    open_folder().save([scans.one("a", files=both)])
    dataset, write = open_folder(), PredictionsDataset._write

    def fail_at_the_second(self: PredictionsDataset, name: str, content: bytes) -> None:
        if name == "a_probability.nii.gz":
            raise OSError("disk full")
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(PredictionsDataset, "_write", fail_at_the_second)
        with pytest.raises(DatasetError, match="disk full"):
            dataset.save([scans.one("a", "other", both, "new")])
    scans.computed.clear()
    open_folder().save([scans.one("a", "f", both)])  # the old fingerprint, but a new mask
    assert scans.computed == ["a"]
    assert (tmp_path / "out/a_mask.nii.gz").read_text() == "x"


def test_nothing_temporary_is_left(tmp_path: Path, scans: Scans, open_folder: Callable[..., PredictionsDataset]):
    open_folder().save([scans.one("a"), scans.bad("b")])
    assert not [name for name in names_in(tmp_path / "out") if name.endswith(".tmp")]


def test_senseless_settings_are_refused():
    with pytest.raises(DatasetError, match="has a ~ in it"):
        PredictionsDataset(path="/project/~/out")
    with pytest.raises(DatasetError, match="overwrite: 'yes' is neither true nor false"):
        PredictionsDataset(path="out", overwrite="yes")  # type: ignore[arg-type]


def test_only_a_run_can_tell_what_is_missing(scans: Scans, open_folder: Callable[..., PredictionsDataset]):
    open_folder().save([scans.one("a")])
    assert not open_folder().exists()
