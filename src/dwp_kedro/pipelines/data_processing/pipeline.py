"""Shape of the data_processing pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node, pipeline

from dwp_kedro.lineage.assessment import SETTLED_FIRST
from dwp_kedro.pipelines.data_processing.nodes import (
    collect_problems,
    describe_cohort,
    describe_volumes,
    draw_cohort,
    preprocess_cohort,
    read_cohort,
    split_subjects,
)
from dwp_kedro.pipelines.plan import Plan, bind


def create_pipeline(plan: Plan) -> Pipeline:
    """Build the pipeline, the same for both cohorts::

        cohort on disk → read → manifest ─┬─→ preprocess → volumes → describe → subjects ─┬─→ contact sheet
                     overview ←────┘      │                                               └─→ splits (target)
                              problems ───┘

    The problems of both cohorts meet before either is preprocessed, so both share one namespace. Where a
    received prior is used there is no source cohort.
    """
    cohorts = ("target",) if plan.receives_prior else ("source", "target")
    starts_from_source = any(method.start == "source" for method in plan.methods.values())
    known = {}
    for cohort in cohorts:
        known[f"{cohort}_problems"] = f"{cohort}.problems"
        known[f"{cohort}_manifest"] = f"{cohort}.manifest"
        known[cohort] = f"params:data_processing.{cohort}"
    shared = [
        node(
            bind(collect_problems, starts_from_source=starts_from_source),
            {**known, "grid": "params:grid"},
            "problems",
            name="collect_problems",
        ),
        node(split_subjects, ["target.subjects", "params:grid"], "splits", name="split", tags=SETTLED_FIRST),
    ]
    nodes = [*(step for cohort in cohorts for step in _cohort_nodes(cohort)), *shared]
    parameters = {"params:grid", *(f"params:data_processing.{cohort}" for cohort in cohorts)}
    return pipeline(nodes, namespace="data_processing", parameters=parameters, tags="data_processing")


def _cohort_nodes(cohort: str) -> list[Node]:
    parameters = f"params:data_processing.{cohort}"
    manifest, problems = f"{cohort}.manifest", f"{cohort}.problems"
    volumes, subjects = f"{cohort}.volumes", f"{cohort}.subjects"
    return [
        node(read_cohort, parameters, [manifest, problems], name=f"read_{cohort}"),
        node(describe_cohort, [manifest, parameters], f"{cohort}.overview", name=f"overview_{cohort}"),
        node(
            preprocess_cohort,
            [manifest, "problems", parameters],
            [volumes, f"{cohort}.preprocessed"],
            name=f"preprocess_{cohort}",
        ),
        node(
            describe_volumes,
            [volumes, f"{cohort}.preprocessed", manifest, parameters],
            subjects,
            name=f"describe_{cohort}",
        ),
        node(draw_cohort, [volumes, subjects, parameters], f"{cohort}.contact_sheet", name=f"draw_{cohort}"),
    ]
