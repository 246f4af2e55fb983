"""Whatever a table or a dataset.json holds: rows, problems that a table can keep, or one error."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwp_kedro.cohorts.checks import CohortError, raise_problems
from dwp_kedro.cohorts.manifest import build_manifest
from dwp_kedro.parameters import CohortParameters

CELL = st.one_of(
    st.sampled_from(
        ["", "a", "../x.nii", "/x.nii", "a.nii#9", "a\x00b", "C:\\x", "~", ".", "..", "a|b", '"', "\ufeff"]
    ),
    st.text(st.characters(), max_size=5),
)
COLUMNS = ["subject", "image", "label", "group", "image_0", "image_1", ""]
TABLE = st.builds(
    lambda columns, rows, separator: "\n".join(separator.join(line) for line in [columns, *rows]),
    st.one_of(st.just(COLUMNS[:3]), st.lists(st.sampled_from(COLUMNS), max_size=5)),
    st.lists(st.lists(CELL, max_size=4), max_size=4),
    st.sampled_from([",", ";", "\t"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELL,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["modality", "training", "image", "label", "0"]), inner, max_size=3)
    ),
    max_leaves=8,
)
DESCRIPTION = st.fixed_dictionaries(
    {
        "modality": JSON | st.just({"0": "MRI"}),
        "training": JSON | st.lists(st.fixed_dictionaries({"image": CELL, "label": CELL}), max_size=3),
    }
)


def check(folder: Path, reader: dict[str, Any]) -> None:
    parameters = CohortParameters.model_validate(
        {"name": "any", "description": "", "reader": {**reader, "folder": folder}, "preprocessing": {"grid": None}}
    )
    try:
        manifest, problems = build_manifest(parameters)
    except CohortError as error:
        assert str(folder) in str(error)  # noqa: PT017 - either outcome is right
        return
    assert manifest.empty
    kept = pd.read_csv(io.StringIO(problems.to_csv(index=False)), keep_default_na=False, dtype=str)
    assert len(kept) == len(problems) > 0
    assert problems["mend"].ne("").all()
    with pytest.raises(CohortError) as caught:
        raise_problems(problems)
    assert not any(unicodedata.category(character) == "Cc" for character in str(caught.value).replace("\n", ""))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(content=TABLE.map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=60))
def test_any_table(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "tables"
    folder.mkdir(exist_ok=True)
    (folder / "any.csv").write_bytes(content)
    check(folder, {"layout": "csv", "file": folder / "any.csv"})


@settings(max_examples=120, deadline=None, derandomize=True)
@given(content=st.one_of(DESCRIPTION, JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_description(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "tasks"
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_bytes(content)
    check(folder, {"layout": "decathlon"})
