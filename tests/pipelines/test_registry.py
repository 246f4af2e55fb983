"""The pipelines as an environment's parameters build them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from dwp_kedro.parameters import GridParameters
from dwp_kedro.pipeline_registry import register_pipelines
from dwp_kedro.pipelines.plan import Plan, PlanHook
from dwp_kedro.pipelines.target_evaluation.pipeline import grid_cells

REPOSITORY = Path(__file__).parents[2]
METHODS = ["ri", "pr", "prf", "dwp", "dwp_sp", "monai"]
CELLS = [f"n{n_train}_split{split}_seed0" for n_train in (2, 3) for split in (0, 1)]
RECORDS = {
    "ri": {"start": "he"},
    "pr": {"start": "source"},
    "dwp": {"start": "prior", "prior": "deep_weight_prior"},
    "mix": {"start": "source", "prior": ["deep_weight_prior", "source_posterior"], "components": 2},
}


def names_of(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


def build(methods: list[str], *, carry: bool = True, **grid: Any) -> dict[str, Pipeline]:
    PlanHook.plan = Plan.from_parameters(
        {
            "grid": {"methods": methods, **grid},
            "methods": RECORDS,
            "source_training": {"n_networks": 2, "restart": None, "n_whole": 2, "snapshots": {}},
            "prior_learning": {"carry_source_network": carry},
        }
    )
    return register_pipelines()


def test_four_pipelines_and_their_sum():
    registry = register_pipelines()
    four = ["data_processing", "source_training", "prior_learning", "target_evaluation"]
    assert list(registry) == [*four, "prediction", "export_prior", "export_kernels", "__default__"]
    assert names_of(registry["__default__"]) == set.union(*(names_of(registry[name]) for name in four))
    assert sum(len(registry[name].nodes) for name in four) == len(registry["__default__"].nodes)
    read = {name for name in registry["__default__"].inputs() if not name.startswith("params:")}
    assert read == {"this_run"}, "the whole pipeline must make everything it reads but what a hook knows"


def test_the_names_of_all_nodes(open_project: Any):
    open_project(REPOSITORY, "test")
    networks = ["network_0", "network_0_restarted", "network_1", "network_1_restarted", "whole_0"]
    expected = {
        "data_processing": {
            *(
                f"data_processing.{step}_{cohort}"
                for cohort in ("source", "target")
                for step in ("read", "overview", "preprocess", "describe", "draw")
            ),
            "data_processing.collect_problems",
            "data_processing.split",
        },
        "source_training": {
            *(f"source_training.{network}.train" for network in networks),
            "source_training.whole_0_source_posterior.take_snapshots",
            "source_training.summarise",
        },
        "prior_learning": {
            *(
                f"prior_learning.group_{group}.{step}"
                for group in range(1, 8)
                for step in ("collect", "learn", "draw")
            ),
            "prior_learning.assemble",
            "prior_learning.summarise",
        },
        "target_evaluation": {
            *(
                f"target_evaluation.{method}.{cell}.{step}"
                for method in METHODS
                for cell in CELLS
                for step in ("train", "predict", "score")
            ),
            *(
                f"target_evaluation.{step}"
                for step in (
                    "collect_scores",
                    "collect_timings",
                    "summarise",
                    "collect_uncertainty",
                    "summarise_uncertainty",
                    "draw_scores",
                    "draw_curves",
                    "draw_segmentations",
                    "write_report",
                )
            ),
        },
    }
    assert {name: names_of(pipelines[name]) for name in expected} == expected


@pytest.mark.parametrize(
    ("tag", "pattern", "count"),
    [
        ("dwp", ".dwp.", 12),
        ("pr", ".pr.", 12),
        ("n2", ".n2_", 36),
        ("n3", ".n3_", 36),
        ("split0", "_split0_", 36),
        ("seed0", "_seed0.", 72),
    ],
)
def test_a_tag_selects_its_cells_and_nothing_else(open_project: Any, tag: str, pattern: str, count: int):
    open_project(REPOSITORY, "test")
    selected = names_of(pipelines["__default__"].only_nodes_with_tags(tag))
    assert len(selected) == count
    assert all(pattern in name for name in selected)


def test_stages_tag_what_gets_a_run_of_its_own(open_project: Any):
    open_project(REPOSITORY, "test")
    whole = pipelines["__default__"]
    namespaces = {
        stage: {node.namespace for node in whole.only_nodes_with_tags(f"stage.{stage}").nodes}
        for stage in ("source_network", "kernel_vae", "grid_cell")
    }
    assert {stage: len(found) for stage, found in namespaces.items()} == {
        "source_network": 6,
        "kernel_vae": 7,
        "grid_cell": 24,
    }


def test_a_namespace_selects_a_method_or_a_cell(open_project: Any):
    open_project(REPOSITORY, "test")
    evaluation = pipelines["target_evaluation"]
    assert len(evaluation.only_nodes_with_namespaces(["target_evaluation.prf"]).nodes) == 12
    cell = evaluation.only_nodes_with_namespaces(["target_evaluation.prf.n3_split1_seed0"])
    assert names_of(cell) == {f"target_evaluation.prf.n3_split1_seed0.{s}" for s in ("train", "predict", "score")}


def upstream_of(evaluation: Pipeline, cell: str) -> set[str]:
    inputs = evaluation.only_nodes_with_namespaces([f"target_evaluation.{cell}"]).inputs()
    return {name for name in inputs if name.startswith(("source_training.", "prior_learning."))}


def test_a_cell_depends_on_what_its_method_starts_from_and_no_more():
    evaluation = build(["ri", "pr", "dwp"], seeds=[0, 7], n_train=[2], n_splits=3)["target_evaluation"]
    assert upstream_of(evaluation, "ri.n2_split0_seed7") == set()
    assert upstream_of(evaluation, "pr.n2_split0_seed7") == {"source_training.whole_0.checkpoint"}
    assert upstream_of(evaluation, "pr.n2_split1_seed7") == {"source_training.whole_1.checkpoint"}
    assert upstream_of(evaluation, "pr.n2_split2_seed0") == {"source_training.whole_0.checkpoint"}
    assert upstream_of(evaluation, "dwp.n2_split0_seed7") == {"prior_learning.prior"}


def test_the_components_of_a_method_start_from_source_networks_of_their_own():
    evaluation = build(["mix"], n_train=[2], n_splits=2)["target_evaluation"]
    assert upstream_of(evaluation, "mix.n2_split1_seed0") == {
        f"source_training.whole_{k}.{part}" for k in (0, 1) for part in ("checkpoint", "source_posterior")
    } | {"prior_learning.prior"}


def test_draws_may_differ_in_number_and_have_seeds_of_their_own():
    grid = GridParameters(methods=["ri"], n_train=[2, 4], n_splits={2: 3, 4: 1}, seeds="per_split", n_test=1)
    assert [cell.name for cell in grid_cells(grid)] == [
        "ri.n2_split0_seed0",
        "ri.n2_split1_seed1",
        "ri.n2_split2_seed2",
        "ri.n4_split0_seed0",
    ]


def test_the_prior_learns_from_the_bootstrap_networks_and_carries_a_whole_one():
    learning = build(["ri", "dwp"])["prior_learning"]
    checkpoints = {f"source_training.{name}.checkpoint" for name in ("network_0", "network_1", "whole_0")}
    taken = {name for name in learning.inputs() if name.startswith("source_training.")}
    assert taken == checkpoints | {"source_training.whole_0.source_posterior"}
    collecting = learning.only_nodes_with_namespaces(["prior_learning.group_1"])
    assert "source_training.whole_0.checkpoint" not in collecting.inputs()


def test_the_grid_is_that_of_the_environment(open_project: Any):
    counts = {}
    for env in ("ms_to_brats18", "test"):
        open_project(REPOSITORY, env)
        counts[env] = len(pipelines["__default__"].only_nodes_with_tags("stage.grid_cell").nodes)
    # methods × train sizes × splits × (train, predict, score)
    assert counts == {"ms_to_brats18": 4 * 4 * 3 * 3, "test": 6 * 2 * 2 * 3}


def test_without_a_session_the_environment_variable_decides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEDRO_ENV", "ms_to_brats18")
    nodes = names_of(register_pipelines()["target_evaluation"])
    assert "target_evaluation.dwp.n20_split2_seed0.train" in nodes


def test_a_method_without_a_record_is_refused_by_name():
    with pytest.raises(ValueError, match=r"grid\.methods: names dwq; did you mean dwp\?"):
        build(["ri", "dwq"])
