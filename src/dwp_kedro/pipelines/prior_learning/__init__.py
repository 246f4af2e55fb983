"""Source networks → kernels by group → one portable prior."""

from dwp_kedro.pipelines.prior_learning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
