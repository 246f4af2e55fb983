"""``--only-missing-outputs`` after something was lost, and runs with nothing upstream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dwp_kedro.hooks import MissingUpstreamError

MODELS = "06_models/test/target_evaluation/dwp"
OUTPUT = "07_model_output/test/dwp/n2_split1_seed0"
SUMMARIES = {
    "scores.csv",
    "uncertainty.csv",
    "summary_uncertainty.csv",
    "uncertainty.json",
    "timings.csv",
    "summary_dsc.csv",
    "summary_iou.csv",
    "summary_hd95.csv",
    "comparison.csv",
    "metrics.json",
    "train_size.json",
    "distribution.json",
    "pairs.json",
    "curves.json",
    "segmentations.png",
    "report.html",
}


def written_at(project: Path) -> dict[str, int]:
    """When everything was written but records, which a copy of a project renews."""
    data = project / "data"
    files = [path for path in data.rglob("*") if path.is_file() and path.parent.name != "lineage"]
    return {path.relative_to(data).as_posix(): path.stat().st_mtime_ns for path in files}


def test_a_lost_cell_is_rebuilt_and_the_summaries_with_it(
    project_copy: Path, finished_project: Path, run_project: Any
):
    lost = [f"{MODELS}/n2_split1_seed0.safetensors", f"{OUTPUT}/scores.csv"]
    for file in lost:
        (project_copy / "data" / file).unlink()
    before = written_at(project_copy)
    run_project(project_copy, only_missing_outputs=True)
    after = written_at(project_copy)
    touched = {file for file, time in after.items() if before.get(file) != time}
    assert touched == {
        *lost,
        f"{MODELS}/n2_split1_seed0_history.csv",
        # The network was trained again, and nobody can know that it is the same.
        *(file for file in before if file.startswith(f"{OUTPUT}/")),
        *(f"08_reporting/test/{name}" for name in SUMMARIES),
    }
    # Nothing was lost: what was rebuilt is what was there.
    for file in (lost[1], "08_reporting/test/scores.csv", "08_reporting/test/summary_dsc.csv"):
        assert (project_copy / "data" / file).read_bytes() == (finished_project / "data" / file).read_bytes()


def test_a_finished_project_has_nothing_left_to_do(project_copy: Path, run_project: Any):
    before = written_at(project_copy)
    run_project(project_copy, only_missing_outputs=True)
    assert written_at(project_copy) == before


def test_predictions_that_were_cut_short_are_made_again(project_copy: Path, run_project: Any):
    output = project_copy / "data" / OUTPUT
    # Killed while it wrote the last prediction, and so before anything that is written later.
    last = sorted(output.glob("own_grid/*"))[-1]
    lost = [last, *(output / name for name in ("predicted.csv", "scores.csv", "metrics.json"))]
    for file in lost:
        file.unlink()
    run_project(project_copy, only_missing_outputs=True)
    assert all(file.exists() for file in lost)


def test_with_nothing_upstream_the_run_says_what_to_do(new_project: Path, run_project: Any):
    with pytest.raises(MissingUpstreamError) as caught:
        run_project(new_project, pipeline_names=["target_evaluation"])
    # Where kedro is not on the PATH, the commands have its folder too.
    assert re.sub(r"  \S*/kedro run", "  kedro run", str(caught.value)).splitlines() == [
        "This run needs 14 dataset(s) that do not exist:",
        "  data_processing.splits",
        "  data_processing.target.manifest",
        "  data_processing.target.subjects",
        "  data_processing.target.volumes",
        *(f"  prior_learning.group_{group}.kernels" for group in range(1, 5)),
        "  … and 6 more",
        "Make them first:",
        "  kedro run --pipelines data_processing --env test",
        "  kedro run --pipelines source_training --env test",
        "  kedro run --pipelines prior_learning --env test",
    ]
    assert not (new_project / "data").exists()
    assert not (new_project / "mlflow.db").exists()


def test_the_target_pipeline_works_from_what_is_on_disk(project_copy: Path, run_project: Any):
    lost = project_copy / "data" / OUTPUT / "scores.csv"
    lost.unlink()
    run_project(project_copy, pipeline_names=["target_evaluation"], only_missing_outputs=True)
    assert lost.exists()
