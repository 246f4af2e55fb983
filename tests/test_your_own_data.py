"""docs/your_own_data.md, followed to the letter: its folder trees, its YAML, its template."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dwp_kedro.cohorts.manifest import build_manifest
from dwp_kedro.imaging.volume import Volume, write_volume
from dwp_kedro.parameters import CohortParameters

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "your_own_data.md").read_text(encoding="utf-8")
READERS = {
    reader["layout"]: reader
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    if (reader := yaml.safe_load(block).get("reader"))
}


def write_scan(image: Path, label: Path) -> None:
    rng = np.random.default_rng(list(str(image).encode()))
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    write_volume(Volume.from_array(rng.random((8, 8, 8)).astype(np.float32), np.diag([1.0, 1, 2, 1])), image)
    write_volume(Volume.from_array(mask, np.diag([1.0, 1, 2, 1])), label)


def subject_folders(root: Path) -> None:
    for name in ("patient_01", "patient_02"):
        folder = root / "lesions" / name
        write_scan(folder / f"{name}_flair.nii.gz", folder / "lesion_mask.nii.gz")


def brats(root: Path) -> None:
    for name in ("BraTS2021_00001", "BraTS2021_00002"):
        folder = root / "brats" / name
        write_scan(folder / f"{name}_flair.nii.gz", folder / f"{name}_seg.nii.gz")
        write_scan(folder / f"{name}_t2.nii.gz", folder / f"{name}_seg.nii.gz")


def decathlon(root: Path) -> None:
    task = root / "Task04_Hippocampus"
    entries = []
    for number in (1, 2):
        name = f"hippocampus_{number:03d}.nii.gz"
        write_scan(task / "imagesTr" / name, task / "labelsTr" / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    (task / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "training": entries}))


def csv(root: Path) -> None:
    for number in ("0001", "0002"):
        write_scan(root / "images" / f"{number}.nii.gz", root / "masks" / f"{number}.nii.gz")
    table = re.search(r"```\n(subject,image,label\n.*?)```", PAGE, flags=re.DOTALL)
    assert table is not None
    (root / "cohort.csv").write_text(table[1])


@pytest.mark.parametrize("write", [subject_folders, brats, decathlon, csv], ids=lambda write: write.__name__)
def test_each_layout_is_read_as_the_page_writes_it(tmp_path: Path, write: Callable[[Path], None]):
    write(tmp_path)
    reader = dict(READERS[write.__name__])
    for key in ("folder", "file"):
        if key in reader:  # as the project does, which lets them begin in data_root
            reader[key] = tmp_path / reader[key]
    template = yaml.safe_load((REPOSITORY / "conf" / "template" / "parameters.yml").read_text(encoding="utf-8"))
    cohort: dict[str, Any] = template["data_processing"]["target"]
    manifest, problems = build_manifest(CohortParameters.model_validate({**cohort, "reader": reader}))
    assert problems.empty, problems.to_string()
    assert len(manifest) == 2
    assert set(manifest["label_ml"]) == {27 * 2 / 1000}


def test_the_settings_for_real_scans_are_those_of_the_evidence():
    template = (REPOSITORY / "conf" / "template" / "parameters.yml").read_text(encoding="utf-8")
    commented = re.search(r"Uncomment it\.\n((?:# .*\n)+)", template)
    assert commented is not None
    advised = yaml.safe_load(re.sub(r"^# ", "", commented[1], flags=re.MULTILINE))
    used: dict[str, Any] = {}
    for file in (REPOSITORY / "conf" / "hippocampus_to_lgg").glob("parameters*.yml"):
        used |= yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(advised) == {"network", "source_training", "target_training"}
    for block, settings in advised.items():
        assert settings == {name: used[block][name] for name in settings}, block


def test_the_page_has_the_four_layouts_and_only_commands_that_exist():
    assert set(READERS) == {"subject_folders", "brats", "decathlon", "csv"}
    assert "cp -r conf/template conf/my_study" in PAGE
    for folder in re.findall(r"`(conf/\w+)/?`", PAGE):
        assert (REPOSITORY / folder).is_dir() or folder == "conf/my_study", folder
