"""Prediction of test volumes and of new scans."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dwp_kedro.parameters.base import Grid, Parameters, Spacing
from dwp_kedro.parameters.cohorts import PreprocessingParameters

PredictionWindow = Literal["auto", "whole"] | Grid


class PredictionParameters(Parameters):
    """Prediction of test volumes."""

    n_samples: Annotated[int, Field(ge=0)] = Field(
        default=4, description="Weight samples of Bayesian networks, averaged; 0: one pass at the posterior mean."
    )
    window: PredictionWindow = Field(
        default="auto",
        description="What a network sees at once: the whole volume; windows of this size, voxels, that overlap "
        "and are averaged with Gaussian weights; or (auto) as much as in training, the whole grid or windows of "
        "the patches' size, and smaller windows where that does not fit into memory.",
    )


class InputParameters(Parameters):
    """What a cell's networks take, as its checkpoint says: all that a new scan must go through."""

    channels: Annotated[int, Field(ge=1)] = Field(description="Images per scan.")
    class_names: Annotated[list[str], Field(min_length=1)] = Field(
        description="Foreground classes, in the order of their label values 1, 2, …."
    )
    spacing: Literal["header", "unknown"] | Spacing = Field(
        description="Where the voxel size comes from, as in the cohort; mm."
    )
    preprocessing: PreprocessingParameters = Field(description="From a scan to the network's input.")
    patch: Grid | None = Field(
        default=None, description="Size of the patches that the networks were trained on; null: whole volumes."
    )

    @property
    def trained_on(self) -> Grid:
        """What the networks saw at once in training, voxels: a patch, or the whole grid."""
        size = self.patch or self.preprocessing.grid
        assert size is not None
        return size

    @model_validator(mode="after")
    def _a_size_is_known(self) -> InputParameters:
        if self.patch is None and self.preprocessing.grid is None:
            raise ValueError("patch: is null, and so is preprocessing.grid; give one of them")
        return self


class PostprocessingParameters(Parameters):
    """What is done to the masks of new scans, class by class, in this order; nothing by default."""

    fill_holes: bool = Field(default=False, description="Background that a class encloses becomes that class.")
    largest_component: bool = Field(default=False, description="Keep only the largest component.")
    min_volume: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Take out smaller components, ml; voxels where the spacing is unknown.",
    )


class NewScansParameters(Parameters):
    """Prediction of scans that no cell has seen."""

    n_samples: Annotated[int, Field(ge=0)] = Field(
        default=8,
        description="Weight samples averaged per Bayesian network; 0: one pass at the posterior mean, which is as "
        "fast as a plain network's and gives no uncertainty either.",
    )
    window: PredictionWindow = Field(default="auto", description="As in the block `prediction`.")
    spacing: Literal["header", "unknown"] | Spacing | None = Field(
        default=None,
        description="Where the voxel size of new scans comes from: their headers; nowhere (volumes are then in "
        "voxels); or three numbers, mm, along the file's own axes, that replace the header's. null: as the "
        "checkpoint says that it was in its training cohort.",
    )
    pictures: bool = Field(
        default=False, description="Write a picture of every scan: three planes, each class outlined."
    )
    postprocessing: PostprocessingParameters = Field(
        default=PostprocessingParameters(), description="What is done to the masks before they are written."
    )
