"""Shape of the prediction pipeline."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node, pipeline

from dwp_kedro.pipelines.prediction.nodes import find_scans, predict_scans

_HERE = "prediction"


def create_pipeline() -> Pipeline:
    """Build the pipeline; it is no part of the default one, and a hook reports on the table::

    images ─▶ find ─▶ predict ─▶ masks, probabilities, uncertainties, volumes.csv
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
        ],
        tags="prediction",
    )
