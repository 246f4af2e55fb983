"""Cohorts on disk → manifest, problems, splits, preprocessed volumes."""

from dwp_kedro.pipelines.data_processing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
