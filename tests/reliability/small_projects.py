"""Projects small enough to be run, and killed, many times; and the commands that run all their pipelines."""

from __future__ import annotations

from pathlib import Path

from project_folder import copy_of_project

EVERYTHING = "run --env test --only-missing-outputs"
PREDICTION = (
    "run --env test --pipelines prediction --params images=data/01_raw/phantom/tumours/tumour_000/"
    "tumour_000_image.nii.gz,checkpoint=dwp.n2_split0_seed0,output=predicted,new_scans.n_samples=2"
)
EXPORT = "run --env test --pipelines export_prior --params output=exported/prior.safetensors"

_GRID = """
grid:
  methods: [ri, dwp]
  n_train: [2]
  n_splits: 1
  n_test: 3

target_training:
  temperature: 0.1
  schedule: { kind: cosine, max_steps: 4 }
"""


def make_small_project(folder: Path) -> Path:
    """Copy the project, with an environment test of two cells that saves states of trainings; nothing is run."""
    project = copy_of_project(folder)
    parameters = project / "conf/base/parameters.yml"
    parameters.write_text(parameters.read_text().replace("state_every_seconds: 60", "state_every_seconds: 0"))
    (project / "conf/test/parameters_target_evaluation.yml").write_text(_GRID)
    return project
