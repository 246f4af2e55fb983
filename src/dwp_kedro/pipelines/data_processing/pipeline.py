"""Shape of the data_processing pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

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
    """
    template = [
        node(read_cohort, "params:cohort", ["manifest", "problems"], name="read"),
        node(
            preprocess_cohort,
            ["manifest", "all_problems", "params:cohort"],
            ["volumes", "subjects"],
            name="preprocess",
        ),
        node(draw_cohort, ["volumes", "subjects"], "contact_sheet", name="draw"),
    ]
    cohorts = [
        pipeline(
            template,
            namespace=f"data_processing.{cohort}",
            inputs={"all_problems": "data_processing.problems"},
            parameters={"params:cohort": f"params:data_processing.{cohort}"},
        )
        for cohort in COHORTS
    ]
    shared = pipeline(
        [
            node(
                collect_problems,
                {
                    "source_problems": "data_processing.source.problems",
                    "target_problems": "data_processing.target.problems",
                    "target_manifest": "data_processing.target.manifest",
                    "grid": "params:grid",
                    "target": "params:data_processing.target",
                },
                "data_processing.problems",
                name="collect_problems",
                namespace="data_processing",
            ),
            node(
                split_subjects,
                ["data_processing.target.subjects", "params:grid"],
                "data_processing.splits",
                name="split",
                namespace="data_processing",
            ),
        ]
    )
    return pipeline([*cohorts, shared], tags="data_processing")
