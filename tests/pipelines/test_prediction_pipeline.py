"""The pipeline `prediction` on the networks of a finished project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroSession
from mlflow import MlflowClient, pyfunc

from dwp_kedro.pipelines.new_scans import NewScansError
from dwp_kedro.pipelines.prediction.nodes import find_scans
from dwp_kedro.tracking.terminal_result_hook import PredictionError

CELL = "dwp.n3_split0_seed0"
PREDICTED = "data/07_model_output/test"


@pytest.fixture
def project(project_copy: Path) -> Path:
    """A finished project, with the test subjects of split 0 as new scans in ``new``."""
    (project_copy / "new").mkdir()
    for name in new_names(project_copy):
        [image] = (project_copy / "data/01_raw/phantom/tumours" / name).glob("*_image.nii.gz")
        shutil.copy(image, project_copy / f"new/{name}.nii.gz")
    return project_copy


def new_names(project: Path) -> list[str]:
    return pd.read_csv(project / PREDICTED / "dwp/n3_split0_seed0/predicted.csv")["subject"].tolist()


def predict(project: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    """Run the pipeline as ``kedro run --pipelines prediction --params …`` does."""
    monkeypatch.chdir(project)
    configure_project("dwp_kedro")
    runtime = {"images": "new", "checkpoint": CELL, "output": "out", **given}
    with KedroSession.create(project, env="test", runtime_params=runtime) as session:
        session.run(pipeline_names=["prediction"])


def mask(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{name}_mask.nii.gz").dataobj)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*_mask.nii.gz")}


def test_masks_are_those_that_the_experiment_scored(project: Path, monkeypatch: pytest.MonkeyPatch):
    # The cell's weight samples have the seed 1000·0 + 0, which those of new scans have too.
    predict(project, monkeypatch, new_scans={"n_samples": 2})
    for name in new_names(project):
        scored = nib.load(project / PREDICTED / f"dwp/n3_split0_seed0/own_grid/{name}.nii.gz")
        # The experiment reads its volumes from disk, where an affine is rounded to float32.
        assert np.mean(mask(project / "out", name) != np.asarray(scored.dataobj)) < 1e-4
    table = pd.read_csv(project / "out/volumes.csv")
    assert table["name"].tolist() == sorted(new_names(project))
    voxels = [int(mask(project / "out", name).sum()) for name in table["name"]]
    spacing = np.prod(nib.load(project / f"new/{table['name'][0]}.nii.gz").header.get_zooms())
    assert np.allclose(table["volume"], np.array(voxels) * spacing / 1000, rtol=1e-4)


def test_a_bad_scan_is_named_at_the_end_and_the_others_are_done_and_stay(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    good = new_names(project)
    content = (project / f"new/{good[0]}.nii.gz").read_bytes()
    (project / "new/broken.nii.gz").write_bytes(content[: len(content) // 2])
    shutil.copy(project / f"new/{good[0]}.nii.gz", project / "new/two_0000.nii.gz")
    shutil.copy(project / f"new/{good[0]}.nii.gz", project / "new/two_0001.nii.gz")
    with pytest.raises(PredictionError, match="2 of 5 scans could not be predicted") as error:
        predict(project, monkeypatch)
    assert "broken.nii.gz: the file is cut short" in str(error.value)
    assert "two_0000.nii.gz: 2 channel(s), the network takes 1" in str(error.value)
    printed = capsys.readouterr().out
    assert printed.endswith("Predictions: out (3 of 5 scans predicted; see volumes.csv)\n")
    for word in ("Report:", "resume", "failed", "Traceback"):
        assert word not in printed
    table = pd.read_csv(project / "out/volumes.csv").set_index("name")
    assert sorted(table.index[table["problem"].isna()]) == sorted(good)
    first = times(project / "out")
    assert sorted(first) == sorted(f"{name}_mask.nii.gz" for name in good)
    assert all((project / f"out/{name}_uncertainty.nii.gz").is_file() for name in good)

    # The file is mended; nothing else is predicted again, and all is well.
    (project / "new/broken.nii.gz").write_bytes(content)
    capsys.readouterr()
    for channel in (0, 1):
        (project / f"new/two_000{channel}.nii.gz").unlink()
    predict(project, monkeypatch)
    assert capsys.readouterr().out.endswith("Predictions: out (4 of 4 scans predicted; see volumes.csv)\n")
    second = times(project / "out")
    assert second.pop("broken_mask.nii.gz")
    assert second == first
    assert np.array_equal(mask(project / "out", "broken"), mask(project / "out", good[0]))
    # Other settings are another prediction, and so is one that is asked for.
    predict(project, monkeypatch, new_scans={"n_samples": 2})
    third = times(project / "out")
    assert all(third[name] > second[name] for name in second)
    predict(project, monkeypatch, new_scans={"n_samples": 2}, overwrite=True)
    assert all(time > third[name] for name, time in times(project / "out").items())


def test_an_ensemble_of_cells_and_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    warning = "The checkpoints come from the draws"
    file = "data/06_models/test/target_evaluation/ri/n3_split1_seed0.safetensors"
    for output, checkpoint in (("one", "ri.n3_split0_seed0"), ("other", file)):
        predict(project, monkeypatch, checkpoint=checkpoint, output=output)
    predict(project, monkeypatch, checkpoint="ri.n3_split0_seed0;pr.n2_split0_seed0", output="of_one_draw")
    assert warning not in capsys.readouterr().out
    predict(project, monkeypatch, checkpoint=f"ri.n3_split0_seed0;{project / file}", output="both")
    assert f"{warning} 0, 1" in capsys.readouterr().out
    for name in new_names(project):
        maps = {
            folder: nib.load(project / folder / f"{name}_probability.nii.gz").get_fdata()
            for folder in ("one", "other", "both")
        }
        assert np.allclose(maps["both"], (maps["one"] + maps["other"]) / 2, atol=1e-5)
        assert not (project / f"one/{name}_uncertainty.nii.gz").exists()
        assert (project / f"both/{name}_uncertainty.nii.gz").is_file()


def test_a_cells_mlflow_model_gives_the_masks_of_the_pipeline(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    configure_project("dwp_kedro")
    given = {"tracking": {"models": "local"}, "new_scans": {"n_samples": 2}}
    with KedroSession.create(project, env="test", runtime_params=given) as session:
        session.run(namespaces=[f"target_evaluation.{CELL}"])
    uri = f"sqlite:///{project.as_posix()}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("dwp-kedro/test")
    [run, *_] = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{CELL}'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    predict(project, monkeypatch, checkpoint=run.info.run_id, new_scans={"n_samples": 2})
    names = new_names(project)
    masks = pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict([f"new/{name}.nii.gz" for name in names])
    for name, of_model in zip(names, masks, strict=True):
        assert np.array_equal(np.asarray(of_model.dataobj), mask(project / "out", name))


def test_it_is_no_part_of_the_default_pipeline(open_project: Any, project_copy: Path):
    open_project(project_copy)
    assert [node.name for node in pipelines["prediction"].nodes] == ["prediction.find", "prediction.predict"]
    assert not [node for node in pipelines["__default__"].nodes if node.name.startswith("prediction.")]


@pytest.mark.parametrize("given", [None, "", 2024])
def test_images_must_be_named(given: Any):
    with pytest.raises(NewScansError, match=r"images is .*: say which scans"):
        find_scans(given)


def test_scans_that_are_not_there_are_no_run_that_failed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(NewScansError, match="nowhere: there is no such file or folder"):
        predict(project, monkeypatch, images="nowhere")
    assert "resume" not in capsys.readouterr().out
    assert not (project / "out").exists()
