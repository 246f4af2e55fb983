"""Prior and target volumes → grid of trainings → scores, tables, figures, report."""

from dwp_kedro.pipelines.target_evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
