from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from dwp_kedro.tracking.upstream_hook import MissingUpstreamError, UpstreamHook


def join(*values: Any) -> str:
    return "joined"


@pytest.fixture
def catalog(tmp_path: Path) -> DataCatalog:
    catalog = DataCatalog.from_config(
        {"{name}": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/{{name}}.json"}}
    )
    catalog["params:target_evaluation.training"] = 1
    return catalog


def test_all_missing_inputs_and_their_commands_in_one_error(
    tmp_path: Path, catalog: DataCatalog, run_pipeline: Any
):
    inputs = [f"source_training.network_{i}.checkpoint" for i in range(10)] + ["prior_learning.prior"]
    catalog.save("source_training.network_0.checkpoint", {})
    evaluation = Pipeline(
        [
            node(join, [*inputs, "params:target_evaluation.training"], "target_evaluation.inner", name="a"),
            node(join, "target_evaluation.inner", "target_evaluation.scores", name="b"),
        ]
    )
    with pytest.raises(MissingUpstreamError) as caught:
        run_pipeline(evaluation, catalog, (UpstreamHook(),), tmp_path, "ms_to_brats18")
    assert str(caught.value).splitlines() == [
        "This run needs 10 dataset(s) that do not exist:",
        "  prior_learning.prior",
        *[f"  source_training.network_{i}.checkpoint" for i in range(1, 8)],
        "  … and 2 more",
        "Make them first:",
        "  kedro run --pipelines source_training --env ms_to_brats18 --params n=1",
        "  kedro run --pipelines prior_learning --env ms_to_brats18 --params n=1",
    ]


def test_inputs_on_disk_are_enough(tmp_path: Path, catalog: DataCatalog, run_pipeline: Any):
    catalog.save("prior_learning.prior", {"any": 1})
    evaluation = Pipeline([node(join, "prior_learning.prior", "target_evaluation.scores", name="a")])
    run_pipeline(evaluation, catalog, (UpstreamHook(),), tmp_path)
    assert catalog.load("target_evaluation.scores") == "joined"


def test_what_a_finished_node_read_is_not_needed_to_resume(
    tmp_path: Path, catalog: DataCatalog, run_pipeline: Any
):
    catalog.save("prior_learning.prior", {"any": 1})
    chain = Pipeline(
        [
            node(join, "source_training.deleted", "prior_learning.prior", name="a"),
            node(join, "prior_learning.prior", "target_evaluation.scores", name="b"),
        ]
    )
    run_pipeline(chain, catalog, (UpstreamHook(),), tmp_path, only_missing_outputs=True)
    with pytest.raises(MissingUpstreamError, match=r"source_training\.deleted"):
        run_pipeline(chain, catalog, (UpstreamHook(),), tmp_path)


def test_what_no_pipeline_makes_comes_last_and_has_no_command(tmp_path: Path, run_pipeline: Any):
    catalog = DataCatalog.from_config(
        {
            "target_evaluation.received_prior": {
                "type": "json.JSONDataset",
                "filepath": f"{tmp_path}/colleague.json",
                "metadata": {"kedro-viz": {"layer": "raw"}},
            },
            "{name}": {"type": "json.JSONDataset", "filepath": f"{tmp_path}/{{name}}.json"},
        }
    )
    raw = "target_evaluation.received_prior"
    inputs = ["a_table", raw, "target_evaluation.scores", *(f"prior_learning.group_{i}.kernels" for i in range(9))]
    with pytest.raises(MissingUpstreamError) as caught:
        run_pipeline(Pipeline([node(join, inputs, "x", name="a")]), catalog, (UpstreamHook(),), tmp_path)
    assert str(caught.value).splitlines() == [
        "This run needs 12 dataset(s) that do not exist:",
        *[f"  prior_learning.group_{i}.kernels" for i in range(8)],
        "  … and 2 more",
        "Make them first:",
        "  kedro run --pipelines prior_learning --params n=1",
        "  kedro run --pipelines target_evaluation --params n=1",
        "No pipeline makes these: check their names, or put the files where the catalog says:",
        f"  a_table: {tmp_path}/a_table.json",
        f"  target_evaluation.received_prior: {tmp_path}/colleague.json",
    ]
    with pytest.raises(MissingUpstreamError) as caught:
        run_pipeline(Pipeline([node(join, "a_table", "x", name="a")]), catalog, (UpstreamHook(),), tmp_path)
    assert "Make them first" not in str(caught.value)
