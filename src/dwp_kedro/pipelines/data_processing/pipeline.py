"""Shape of the data_processing pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node, pipeline

from dwp_kedro.pipelines.data_processing.nodes import (
    collect_problems,
    draw_cohort,
    preprocess_cohort,
    read_cohort,
    split_subjects,
)

COHORTS = ("source", "target")


def create_pipeline() -> Pipeline:
    """Build the pipeline, the same for both cohorts::

        cohort on disk → read → manifest ─┬─→ preprocess → volumes, subjects ─┬─→ contact sheet
                              problems ───┘                                   └─→ splits (target)

    The problems of both cohorts meet before either is preprocessed, so both share one namespace.
    """
    shared = [
        node(
            collect_problems,
            {
                "source_problems": "source.problems",
                "target_problems": "target.problems",
                "target_manifest": "target.manifest",
                "grid": "params:grid",
                "target": "params:data_processing.target",
            },
            "problems",
            name="collect_problems",
        ),
        node(split_subjects, ["target.subjects", "params:grid"], "splits", name="split"),
    ]
    nodes = [*(step for cohort in COHORTS for step in _cohort_nodes(cohort)), *shared]
    parameters = {"params:grid", *(f"params:data_processing.{cohort}" for cohort in COHORTS)}
    return pipeline(nodes, namespace="data_processing", parameters=parameters, tags="data_processing")


def _cohort_nodes(cohort: str) -> list[Node]:
    parameters = f"params:data_processing.{cohort}"
    manifest, problems = f"{cohort}.manifest", f"{cohort}.problems"
    volumes, subjects = f"{cohort}.volumes", f"{cohort}.subjects"
    return [
        node(read_cohort, parameters, [manifest, problems], name=f"read_{cohort}"),
        node(
            preprocess_cohort,
            [manifest, "problems", parameters],
            [volumes, subjects],
            name=f"preprocess_{cohort}",
        ),
        node(draw_cohort, [volumes, subjects], f"{cohort}.contact_sheet", name=f"draw_{cohort}"),
    ]
