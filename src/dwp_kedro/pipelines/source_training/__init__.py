"""Source volumes → source networks."""

from dwp_kedro.pipelines.source_training.pipeline import create_pipeline, network_names, whole_names

__all__ = ["create_pipeline", "network_names", "whole_names"]
