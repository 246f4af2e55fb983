from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dwp_kedro.parameters import CohortParameters
from dwp_kedro.pipelines.data_processing.raw_files import raw_files


def cohort(reader: dict[str, Any], **more: Any) -> CohortParameters:
    return CohortParameters.model_validate(
        {"name": "c", "description": "d", "reader": reader, "preprocessing": {"grid": [16, 16, 16]}, **more}
    )


def test_files_of_folders_without_those_of_excluded_subjects(tmp_path: Path):
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
        for kind in ("flair", "seg", "other"):
            (tmp_path / name / f"{kind}.nii.gz").write_text("")
    reader = {"layout": "subject_folders", "folder": tmp_path, "channels": ["flair*"], "label": "seg*"}
    assert raw_files(cohort(reader, exclude=["p2"])) == {
        "p1/flair.nii.gz": tmp_path / "p1" / "flair.nii.gz",
        "p1/seg.nii.gz": tmp_path / "p1" / "seg.nii.gz",
    }


def test_a_table_counts_with_the_files_that_it_names(tmp_path: Path):
    table = tmp_path / "cohort.csv"
    table.write_text("subject,image,label\np1,scan.nii.gz#2,seg.nii\n")
    reader = {"layout": "csv", "folder": tmp_path, "file": table}
    assert raw_files(cohort(reader)) == {
        "scan.nii.gz": tmp_path / "scan.nii.gz",
        "seg.nii": tmp_path / "seg.nii",
        "the table of the cohort": table,
    }


def test_so_does_a_decathlon_description(tmp_path: Path):
    entry = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    description = {"modality": {"0": "MRI"}, "training": [entry]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    found = raw_files(cohort({"layout": "decathlon", "folder": tmp_path}))
    assert found.keys() == {"dataset.json", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz"}


def test_made_up_scans_are_listed_and_not_written(tmp_path: Path):
    reader = {"layout": "phantom", "folder": tmp_path / "new", "disease": "tumour", "n_subjects": 3}
    assert len(raw_files(cohort(reader))) == 6
    assert not (tmp_path / "new").exists()


def test_without_the_folder_nothing_can_be_said(tmp_path: Path):
    assert raw_files(cohort({"layout": "brats", "folder": tmp_path / "no", "channels": ["t2"]})) == {}
