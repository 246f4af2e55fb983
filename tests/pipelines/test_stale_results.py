"""Which nodes of a finished experiment run again after a change, and which runs are refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from kedro.framework.project import pipelines
from kedro.runner import SequentialRunner

from dwp_kedro.hooks import OutOfDateError
from dwp_kedro.lineage.code import Sources
from dwp_kedro.pipelines.prior_learning.nodes import learn_group
from dwp_kedro.pipelines.target_evaluation.cell import train_cell
from dwp_kedro.pipelines.target_evaluation.reporting import write_report
from dwp_kedro.tracking.lineage_hook import LineageHook

Assess = Callable[..., set[str]]
RAW = "data/01_raw/phantom"


@pytest.fixture
def nodes_to_run(open_project: Any) -> Assess:
    """Names of the nodes that ``--only-missing-outputs`` would run, without running them."""

    def assess(project: Path, pipeline: str = "__default__", **parameters: Any) -> set[str]:
        context = open_project(project, runtime_params=parameters)
        catalog = context.catalog
        run_params = {
            "project_path": project.as_posix(),
            "env": "test",
            "runtime_params": parameters,
            "only_missing_outputs": True,
        }
        LineageHook(lambda: pipelines["__default__"]).before_pipeline_run(run_params, pipelines[pipeline], catalog)
        chosen = SequentialRunner()._filter_pipeline_for_missing_outputs(pipelines[pipeline], catalog)
        return {node.name for node in chosen.nodes}

    return assess


def of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def cells(names: set[str], step: str) -> set[str]:
    ending = f".{step}"
    return {name.removesuffix(ending) for name in names if name.endswith(ending) and name.count(".") == 3}


def test_what_no_result_depends_on_makes_nothing_stale(project_copy: Path, nodes_to_run: Assess):
    elsewhere = project_copy / "elsewhere"
    shutil.copytree(project_copy / "data" / "01_raw", elsewhere)
    for file in (project_copy / "data").rglob("*.nii.gz"):
        file.touch()
    compute = {"device": "cpu", "state_folder": "/nowhere", "state_every_seconds": 5}
    assert nodes_to_run(project_copy, compute=compute, data_root=str(elsewhere)) == set()


def test_precision_makes_everything_stale_that_is_computed_with_it(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, compute={"precision": "32-true"})
    assert of(names) == {"source_training", "prior_learning", "target_evaluation"}


def test_target_training_makes_the_cells_stale_and_no_source_network(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, target_training={"batch_size": 1})
    assert of(names) == {"target_evaluation"}
    assert len(cells(names, "train")) == len(cells(names, "score")) == 24
    assert "target_evaluation.write_report" in names


def test_the_posteriors_settings_leave_plain_networks(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, target_training={"temperature": 0.2, "initial_sigma": 0.3})
    assert {cell.split(".")[1] for cell in cells(names, "train")} == {"dwp", "dwp_sp"}


def test_a_source_network_takes_along_what_is_behind_it(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, source_training={"l2": 0.5})
    assert of(names) == {"source_training", "prior_learning", "target_evaluation"}
    # Cells that take nothing from the source stay.
    assert not any(".ri." in name or ".monai." in name for name in names)
    assert len(cells(names, "train")) == 16


def test_more_source_networks_leave_those_there_are(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, source_training={"n_whole": 2})
    trained = {name for name in names if name.startswith("source_training.") and name.endswith(".train")}
    assert trained == {"source_training.whole_1.train"}
    assert of(names) == {"source_training", "target_evaluation"}
    # Draw 1 starts from the new network now.
    assert cells(names, "train")
    assert all("_split1_" in cell for cell in cells(names, "train"))


def test_snapshots_leave_the_networks_they_are_taken_from(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, source_training={"snapshots": {"every_steps": 3}})
    assert "source_training.whole_0_source_posterior.take_snapshots" in names
    assert not any(name.startswith("source_training.") and name.endswith(".train") for name in names)
    # The prior file carries the source posterior along.
    assert "prior_learning.assemble" in names


def test_a_method_makes_its_own_cells_stale(project_copy: Path, nodes_to_run: Assess):
    names = nodes_to_run(project_copy, methods={"dwp": {"target_training": {"temperature": 1}}})
    assert {cell.split(".")[1] for cell in cells(names, "train")} == {"dwp"}


def test_an_edited_mask_makes_everything_behind_its_cohort_stale(
    project_copy: Path, nodes_to_run: Assess, capsys: pytest.CaptureFixture[str]
):
    path = project_copy / RAW / "tumours" / "tumour_001" / "tumour_001_label.nii.gz"
    label = nib.load(path)
    voxels = label.get_fdata().astype("uint8")
    voxels[:2, :2, :2] = 1
    nib.save(nib.Nifti1Image(voxels, label.affine, label.header), path)
    names = nodes_to_run(project_copy)
    assert "data_processing.read_target" in names
    assert "data_processing.read_source" not in names
    assert of(names) == {"data_processing", "target_evaluation"}
    assert len(cells(names, "train")) == 24
    assert "files: the file tumour_001/tumour_001_label.nii.gz has changed:" in capsys.readouterr().out


def test_a_larger_grid_leaves_what_is_trained(project_copy: Path, nodes_to_run: Assess):
    grid = {"methods": ["ri", "pr", "prf", "dwp", "dwp_sp", "monai", "gaussian"], "n_splits": 3}
    of_cells = nodes_to_run(project_copy, "target_evaluation", grid=grid)
    names = nodes_to_run(project_copy, grid=grid)
    new = cells(names, "train")
    assert names - of_cells == {"data_processing.collect_problems"}
    assert len(new) == 7 * 2 * 3 - 24
    assert all(cell.split(".")[1] == "gaussian" or "_split2_" in cell for cell in new)
    assert of(names) == {"data_processing", "target_evaluation"}
    # The splits, which cost nothing, were drawn before that was decided.
    assert "\n2,tumour" in (project_copy / "data" / "03_primary" / "test" / "splits.csv").read_text()


def test_other_splits_make_the_cells_stale(project_copy: Path, nodes_to_run: Assess):
    assert len(cells(nodes_to_run(project_copy, grid={"split_seed": 5}), "train")) == 24


def test_words_about_a_cohort_change_the_pages_with_them(project_copy: Path, nodes_to_run: Assess):
    words = {"data_processing": {"target": {"description": "Others."}}}
    names = nodes_to_run(project_copy, **words)
    assert names == {"target_evaluation.write_report", "target_evaluation.draw_segmentations"}
    licence = {"data_processing": {"source": {"licence": "None."}}}
    assert "prior_learning.assemble" in nodes_to_run(project_copy, **licence)


def test_a_pipeline_on_a_stale_prior_is_refused(project_copy: Path, nodes_to_run: Assess):
    for pipeline in ("target_evaluation", "export_prior"):
        with pytest.raises(OutOfDateError) as caught:
            nodes_to_run(project_copy, pipeline, prior_learning={"seed": 3})
        told = re.sub(r"\S*/kedro run", "kedro run", str(caught.value))
        assert told.startswith("This run would read what is out of date:\n")
        assert "\n  prior_learning.prior\n" in told
        assert "\n  parameter prior_learning.seed: 0 → 3:\n    prior_learning.group_1.checkpoint, " in told
        assert "  kedro run --only-missing-outputs --to-outputs " in told
        assert "prior_learning.prior --env test --params prior_learning.seed=3" in told
    # What takes nothing from the source has nothing to do with it.
    assert nodes_to_run(project_copy, "data_processing", prior_learning={"seed": 3}) == set()


def test_of_code_only_what_is_used_counts():
    sources = Sources()
    cell, group, page = (sources.code_of(function).modules for function in (train_cell, learn_group, write_report))
    assert {"dwp_kedro.training.loop", "dwp_kedro.bayes.elbo", "dwp_kedro.networks.unet"} <= cell.keys()
    assert "dwp_kedro.training.kernel_prior" in group.keys() - cell.keys()
    assert "dwp_kedro.evaluation.report" in page.keys() - cell.keys() - group.keys()
    assert not any("data_processing" in name or "readers" in name for name in cell)
    assert sources.code_of(train_cell).libraries.keys() >= {"torch", "numpy", "monai"}
