"""New scans and trained networks → masks, probabilities, uncertainties, volumes."""

from dwp_kedro.pipelines.prediction.pipeline import create_pipeline

__all__ = ["create_pipeline"]
