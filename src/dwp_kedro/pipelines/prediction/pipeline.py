"""Shape of the prediction pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.pipelines.prediction.nodes import find_scans, predict_scans, report_problems

_HERE = "prediction"


def create_pipeline() -> Pipeline:
    """Build the pipeline; it is no part of the default one::

    images ─▶ find ─▶ predict ─▶ masks, probabilities, uncertainties, volumes.csv ─▶ report problems
    checkpoints ─────────┘
    """
    return pipeline(
        [
            node(find_scans, "params:images", f"{_HERE}.scans", name="find", namespace=_HERE),
            node(
                predict_scans,
                {
                    "scans": f"{_HERE}.scans",
                    "checkpoints": f"{_HERE}.checkpoints",
                    "settings": "params:new_scans",
                    "compute": "params:compute",
                },
                f"{_HERE}.predictions",
                name="predict",
                namespace=_HERE,
            ),
            node(report_problems, f"{_HERE}.predictions", None, name="report_problems", namespace=_HERE),
        ],
        tags="prediction",
    )
