from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import pyfunc
from mlflow.exceptions import MlflowException

from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.imaging.volume import VolumeError
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import NewScansParameters
from dwp_kedro.pipelines.architectures import network_arguments
from dwp_kedro.pipelines.predictor import Predictor
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.training.settings import Compute

CODE = Path(__file__).parents[1] / "src/dwp_kedro/pyfunc_model.py"
INPUT = {
    "channels": 2,
    "class_names": ["a", "b"],
    "spacing": "header",
    "preprocessing": {"grid": [16, 16, 16], "fit": "resample", "foreground_threshold": None},
}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    network = UNet3D(2, 3, (2, 2, 2, 4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    metadata = {"components": 1, "cell": "of a test", "input": INPUT, **network_arguments(network)}
    return Checkpoint({f"component_0/{k}": v for k, v in network.state_dict().items()}, metadata)


@pytest.fixture
def scan(tmp_path: Path) -> list[str]:
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.1) @ np.diag([-1, 2, 3.0]), [4, 5, 6])
    generator = np.random.default_rng(0)
    paths = [str(tmp_path / f"scan_000{channel}.nii.gz") for channel in range(2)]
    for path in paths:
        nib.save(nib.Nifti1Image(generator.random((20, 18, 12)).astype(np.float32), affine), path)
    return paths


@pytest.fixture
def logged(tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Folder and address of a model of two channels."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "cell.safetensors"
    CheckpointDataset(filepath=str(file)).save(checkpoint)
    store = MlflowStore(tmp_path, "models")
    run_id = store.start_run("cell", {})
    settings = {**NewScansParameters().model_dump(mode="json"), "device": "auto", "precision": "auto"}
    store.log_model(run_id, CODE, file, settings, ["torch"], "new/p_0000.nii.gz|new/p_0001.nii.gz")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    [description] = tmp_path.rglob("model/MLmodel")
    return description.parent, f"runs:/{run_id}/model"


def test_the_logged_model_gives_the_same_masks_and_holds_no_pickle(
    logged: tuple[Path, str], checkpoint: Checkpoint, scan: list[str]
):
    folder, address = logged
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        "MLmodel", "cell.safetensors", "pyfunc_model.py", "conda.yaml", "python_env.yaml", "requirements.txt",
        "input_example.json", "serving_input_example.json",
    }  # fmt: skip
    assert "pkl" not in (folder / "MLmodel").read_text()
    given = {"device": "cpu", "precision": "32-true", "postprocessing": {"largest_component": True}}
    model = pyfunc.load_model(address, model_config=given)
    [mask] = model.predict(["|".join(scan)])
    new_scans = NewScansParameters.model_validate({"postprocessing": {"largest_component": True}})
    expected = Predictor([checkpoint], new_scans, Compute(device="cpu", precision="32-true")).segment(scan)
    assert np.array_equal(np.asarray(mask.dataobj), expected.mask)
    assert len(np.unique(expected.mask)) > 1
    assert np.array_equal(mask.affine, nib.load(scan[0]).affine)


def test_it_takes_paths_in_all_ways_that_mlflow_lets_through(logged: tuple[Path, str], scan: list[str]):
    model = pyfunc.load_model(logged[1], model_config={"device": "cpu", "precision": "32-true"})
    joined = "|".join(scan)
    [expected] = model.predict(joined)
    table = pd.DataFrame({"image": [joined, joined], "name": ["a", "b"]}, index=[7, 7])
    for given, n_scans in (
        ([joined], 1),
        ([Path(joined)], 1),
        (np.array([joined, joined]), 2),
        (table, 2),
        (table["image"], 2),
        (table[["image"]][:1], 1),
    ):
        masks = model.predict(given)
        assert len(masks) == n_scans
        assert all(np.array_equal(mask.dataobj, expected.dataobj) for mask in masks)


def test_its_signature_and_example_say_what_it_takes(logged: tuple[Path, str]):
    model = pyfunc.load_model(logged[1])
    assert model.metadata.get_input_schema().to_dict() == [{"type": "string", "required": True}]
    assert model.input_example == ["new/p_0000.nii.gz|new/p_0001.nii.gz"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([None], VolumeError, r"None is no path: .*model\.predict\(table\['image'\]\)"),
        (pd.DataFrame({"name": ["p1"], "image": ["p1.nii.gz"]}), VolumeError, r"p1: 1 channel\(s\).* takes 2"),
        (np.array([1, 2]), MlflowException, "Can not safely convert int64"),
        (["a.nii.gz|nowhere.nii.gz"], VolumeError, r"a\.nii\.gz: no such file"),
    ],
)
def test_what_is_no_scan_is_one_clear_error(
    logged: tuple[Path, str], given: Any, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        pyfunc.load_model(logged[1], model_config={"device": "cpu", "precision": "32-true"}).predict(given)
