from __future__ import annotations

import base64
from pathlib import Path

import pytest
from kedro.io.core import DatasetError

from dwp_kedro.datasets import ReportDataset

PICTURE = base64.b64encode(b"\x89PNG first").decode()


def test_a_page_comes_back_as_it_was_and_shows_its_first_picture(tmp_path: Path) -> None:
    script = '<script>i.src="data:image/png;base64,ABCD"</script>'
    pictures = f'<img alt="a" src="data:image/png;base64,{PICTURE}"><img src="data:image/png;base64,AAAA">'
    page = f"{script}<p>Größe ≤ 3</p>{pictures}"
    dataset = ReportDataset(filepath=str(tmp_path / "a" / "report.html"))
    dataset.save(page)
    assert dataset.load() == page
    assert dataset.preview() == PICTURE
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["report.html"]


def test_a_page_without_a_picture_says_so(tmp_path: Path) -> None:
    dataset = ReportDataset(filepath=str(tmp_path / "report.html"))
    dataset.save("<p>nothing</p>")
    with pytest.raises(DatasetError, match=r"report\.html holds no picture"):
        dataset.preview()
