from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from dwp_kedro.cohorts.overview import LOOK, describe_cohort, find_remarks
from dwp_kedro.parameters import CohortParameters

SUBJECT = {
    "group": "",
    "images": "a.nii",
    "shape": "100x100x50",
    "spacing": "1.0x1.0x2.0",
    "orientation": "LPS",
    "intensities": "0 to 100",
    "label_voxels": 1000,
    "label_ml": 2.0,
    "label_values": "0 1",
}


def manifest(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{"subject": f"p{number}", **SUBJECT, **change} for number, change in enumerate(changes)])


def cohort(**changes: Any) -> CohortParameters:
    given = {
        "name": "ms",
        "description": "",
        "reader": {"layout": "brats", "folder": ".", "channels": ["t2"]},
        "preprocessing": {"grid": [16, 16, 16]},
    }
    return CohortParameters.model_validate({**given, **changes})


def facts(table: pd.DataFrame, parameters: CohortParameters) -> dict[str, str]:
    described = describe_cohort(table, parameters)
    assert set(described["cohort"]) == {"ms"}
    return dict(zip(described["fact"], described["value"], strict=True))


def test_ranges_and_extremes():
    table = manifest(
        {"group": "HGG", "label_ml": 0.04, "intensities": "-3 to 80"},
        {"group": "LGG", "label_ml": 1234.5, "shape": "90x100x60", "orientation": "RAS", "label_values": "0 1 4"},
        {"group": "HGG", "images": "a.nii|b.nii"},
    )
    assert facts(table, cohort(exclude=["x"], preprocessing={"grid": None, "foreground_threshold": None})) == {
        "subjects": "3; HGG (2), LGG (1); 1 excluded",
        "images per subject": "1 (2), 2 (1)",
        "shape, voxels": "90–100 x 100 x 50–60 (2 different)",
        "spacing, mm": "1.0x1.0x2.0",
        "orientation": "LPS (2), RAS (1)",
        "intensities": "-3 to 100; highest of a subject, median 100",
        "label values": "0, 1, 4 (in 1); foreground: above 0",
        "label volume, ml": "median 2, from 0.04 (p0) to 1234 (p1)",
    }


def test_volumes_are_in_voxels_where_the_spacing_is_unknown():
    table = manifest({"spacing": "unknown", "label_ml": None, "label_voxels": 90}, {"spacing": "unknown"})
    told = facts(table, cohort(spacing="unknown"))
    assert told["label volume, voxels"] == "median 545, from 90 (p0) to 1000 (p1)"
    assert told["spacing, mm"] == "unknown"


def test_a_cohort_without_subjects_is_described_too():
    assert facts(manifest().reindex(columns=["subject", *SUBJECT]), cohort()) == {"subjects": "0"}


@pytest.mark.parametrize(
    ("change", "parameters", "words"),
    [
        ({}, {}, None),
        ({"label_values": "0 1 2"}, {"labels": 1}, "label values 2 are in no class"),
        ({"label_values": "0 1 2"}, {"labels": {"a": [1], "b": [2]}}, None),
        ({"label_values": "0 1 2"}, {"labels": "above_zero"}, None),
        ({}, {"labels": [1, 4]}, "no subject has the label values 4"),
        ({"shape": "256x256x20", "spacing": "1.0x1.0x1.0"}, {}, "would then measure 256x256x20 mm"),
        ({"shape": "256x256x64", "spacing": "1.0x1.0x1.0"}, {}, None),  # a quarter: a slab may be that
        ({"shape": "256x256x20", "spacing": "1.0x1.0x6.0"}, {}, None),
        (
            {"shape": "256x256x20", "spacing": "1.0x1.0x1.0"},
            {"spacing": (1, 1, 1)},
            None,
        ),  # declared, not believed
        ({"intensities": "-1024 to 3000"}, {}, "1 of 3 subjects have intensities below 0"),
        (
            {"intensities": "-1024 to 3000"},
            {"preprocessing": {"grid": [16, 16, 16], "foreground_threshold": None}},
            None,
        ),
        ({"label_voxels": 9}, {}, "1 of 3 subjects have less than 1% of the median label volume: p0"),
        ({"label_voxels": 10}, {}, None),
        ({"label_voxels": 250_001}, {}, "fills more than half of the volume"),
    ],
)
def test_what_deserves_a_second_look(change: dict[str, Any], parameters: dict[str, Any], words: str | None):
    table = manifest(change, {}, {})
    remarks = find_remarks(table, cohort(**parameters))
    assert len(remarks) == (words is not None), remarks
    assert words is None or words in remarks[0]
    assert facts(table, cohort(**parameters)).get(LOOK) == (remarks[0] if words else None)
