"""A learnt prior, or the kernels behind it → files to hand over."""

from dwp_kedro.pipelines.export_prior.pipeline import create_kernels_pipeline, create_pipeline

__all__ = ["create_kernels_pipeline", "create_pipeline"]
