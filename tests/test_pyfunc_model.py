from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from mlflow import pyfunc

from dwp_kedro.datasets import CheckpointDataset
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


def test_the_logged_model_gives_the_same_masks_and_holds_no_pickle(
    tmp_path: Path, checkpoint: Checkpoint, scan: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "cell.safetensors"
    CheckpointDataset(filepath=str(file)).save(checkpoint)
    store = MlflowStore(tmp_path, "models")
    run_id = store.start_run("cell", {})
    settings = {**NewScansParameters().model_dump(mode="json"), "device": "auto", "precision": "auto"}
    store.log_model(run_id, CODE, file, settings, ["torch"])
    [folder] = tmp_path.rglob("model/MLmodel")
    names = {path.name for path in folder.parent.rglob("*") if path.is_file()}
    assert names == {
        "MLmodel", "cell.safetensors", "pyfunc_model.py", "conda.yaml", "python_env.yaml", "requirements.txt",
    }  # fmt: skip
    assert "pkl" not in folder.read_text()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    given = {"device": "cpu", "precision": "32-true", "postprocessing": {"largest_component": True}}
    model = pyfunc.load_model(f"runs:/{run_id}/model", model_config=given)
    [mask] = model.predict(["|".join(scan)])
    new_scans = NewScansParameters.model_validate({"postprocessing": {"largest_component": True}})
    expected = Predictor([checkpoint], new_scans, Compute(device="cpu", precision="32-true")).segment(scan)
    assert np.array_equal(np.asarray(mask.dataobj), expected.mask)
    assert len(np.unique(expected.mask)) > 1
    assert np.array_equal(mask.affine, nib.load(scan[0]).affine)
