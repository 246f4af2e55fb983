"""All parameter blocks of an environment, by the names that YAML gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dwp_kedro.parameters.base import Parameters
from dwp_kedro.parameters.cohorts import CohortParameters
from dwp_kedro.parameters.experiment import GridParameters, MethodName, MethodParameters
from dwp_kedro.parameters.prediction import NewScansParameters, PredictionParameters
from dwp_kedro.parameters.source import ExportPriorParameters, PriorLearningParameters, SourceTrainingParameters
from dwp_kedro.parameters.training import ComputeParameters, NetworkParameters, TargetTrainingParameters


class DataProcessingParameters(Parameters):
    """The two cohorts."""

    source: CohortParameters | None = Field(
        default=None, description="The large cohort that the prior is learnt from; not needed with prior: a file."
    )
    target: CohortParameters = Field(description="The cohort of the few scans, and of those to test on.")


class TrackingParameters(Parameters):
    """What MLflow gets besides numbers and tables."""

    upload_pictures: bool = Field(
        default=False, description="A server also gets pictures and the report, which show scans."
    )
    models: Literal["local", "always", "never"] = Field(
        default="local",
        description="Whether each grid cell's networks are kept as an MLflow model: where runs are recorded on "
        "this machine, on a server too, or never.",
    )


class LineageParameters(Parameters):
    """Records of what results were made of."""

    folder: Path = Field(description="Where they are kept, a file per node.")
    accept: Literal["nothing", "unrecorded", "code"] = Field(
        default="nothing",
        description="Which results are taken as they are, and recorded so: those of which nothing is recorded, or "
        "those with no other change than of code or libraries.",
    )


class EnvironmentParameters(Parameters):
    """Everything that may stand in an environment's ``parameters*.yml``."""

    environment: str = Field(description="Names the folders of results; set in globals.yml.")
    prior: str = Field(
        default="learnt",
        description="learnt, or the path of a colleague's prior file; set in globals.yml or by --params prior=...",
    )
    volume_suffix: Literal[".nii.gz", ".nii"] = Field(
        default=".nii.gz",
        description="Of preprocessed volumes; .nii ones need not fit into memory. Set in globals.yml.",
    )
    compute: ComputeParameters = Field(description="Device, precision, saved states.")
    network: NetworkParameters = Field(description="The U-Net's widths.")
    data_processing: DataProcessingParameters = Field(description="The cohorts, source and target.")
    source_training: SourceTrainingParameters = Field(description="Source networks.")
    prior_learning: PriorLearningParameters = Field(description="The prior's VAEs.")
    export_prior: ExportPriorParameters = Field(description="What a prior file carries.")
    methods: dict[MethodName, MethodParameters] = Field(description="Methods by name.")
    grid: GridParameters = Field(description="Methods × train sizes × splits × seeds.")
    target_training: TargetTrainingParameters = Field(description="Training of a grid cell.")
    prediction: PredictionParameters = Field(description="Prediction of test volumes.")
    images: str | None = Field(default=None, description="New scans: a NIfTI file, a folder, or a CSV table.")
    checkpoint: str | list[str] | None = Field(
        default=None, description="What predicts new scans: a file, a grid cell, an MLflow run; several: a list."
    )
    new_scans: NewScansParameters = Field(description="Prediction of new scans.")
    lineage: LineageParameters = Field(description="Records of what results were made of.")
    tracking: TrackingParameters = Field(
        default=TrackingParameters(), description="What an MLflow server gets besides numbers and tables."
    )

    @model_validator(mode="after")
    def _a_learnt_prior_has_a_source(self) -> EnvironmentParameters:
        if self.prior == "learnt" and self.data_processing.source is None:
            raise ValueError(
                "data_processing.source: is missing. The prior is learnt from this cohort; without one, name a "
                "colleague's prior file: prior in globals.yml, or --params prior=FILE"
            )
        return self

    @model_validator(mode="after")
    def _patches_fit_the_volumes(self) -> EnvironmentParameters:
        for block, training, cohort in (
            ("source_training", self.source_training, self.data_processing.source),
            ("target_training", self.target_training, self.data_processing.target),
        ):
            if cohort is None or (block == "source_training" and self.prior != "learnt"):
                continue
            grid, patches = cohort.preprocessing.grid, training.patches
            if grid is None and patches is None:
                raise ValueError(
                    f"{block}.patches: is null, and so is the preprocessing's grid: volumes of different sizes "
                    "cannot be batched whole. Give patches a size, or set a grid"
                )
            if grid and patches and any(side > most for side, most in zip(patches.size, grid, strict=True)):
                raise ValueError(
                    f"{block}.patches.size: {list(patches.size)} is larger than the preprocessing's grid, "
                    f"{list(grid)}. Give a smaller size, or grid: null, with which volumes keep their own size"
                )
        return self
