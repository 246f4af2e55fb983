"""Source networks, the prior that is learnt from their kernels, and what is handed over."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dwp_kedro.parameters.base import Parameters
from dwp_kedro.parameters.training import GradientClipping, ScheduleParameters, SegmentationTraining


class SnapshotParameters(Parameters):
    """Snapshots along further training of a network on the whole source set (SWAG, Maddox et al. 2019)."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(default=1e-3, description="Constant, Adam's.")
    n_snapshots: Annotated[int, Field(ge=2)] = Field(default=20, description="How many are taken.")
    every_steps: Annotated[int, Field(ge=1)] = Field(default=10, description="Steps from one to the next.")
    rank: Annotated[int, Field(ge=2)] = Field(
        default=10, description="Of the covariance's low-rank part: the last so many deviations are kept."
    )

    @model_validator(mode="after")
    def _deviations_are_snapshots(self) -> SnapshotParameters:
        if self.rank > self.n_snapshots:
            raise ValueError(
                f"rank: {self.rank} deviations need as many snapshots; n_snapshots is {self.n_snapshots}"
            )
        return self


class SourceTrainingParameters(SegmentationTraining):
    """Source networks whose kernels the prior learns from, and those that pr and prf start from."""

    n_networks: Annotated[int, Field(ge=1)] = Field(default=10, description="Networks on bootstrap samples.")
    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Network i on a bootstrap sample uses seed + i."
    )
    l2: Annotated[float, Field(ge=0)] = Field(default=1e-3, description="Penalty l2·Σw² on all weights.")
    restart: ScheduleParameters | None = Field(
        default=ScheduleParameters(),
        description="Cyclical restart: each network converges again, which doubles their number; null: none.",
    )
    n_whole: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Networks on the whole source set. Draw d of the training volumes starts from number d, "
        "modulo their number; a method with components that start from source networks needs as many.",
    )
    snapshots: SnapshotParameters | None = Field(
        default=None, description="For the prior source_posterior; null: none are taken."
    )


class PriorLearningParameters(GradientClipping):
    """One VAE per kernel group."""

    latent_dim: Annotated[int, Field(ge=1)] = Field(default=6, description="Latent dimensions of a kernel.")
    heads: Literal["free", "literal"] = Field(
        default="free", description="free: mean unbounded, log-variance clamped; literal: Tanh on both."
    )
    min_norm: Annotated[float, Field(ge=0)] = Field(
        default=0.01,
        description="Kernels of smaller Euclidean norm, relative to the group's root mean square, are dropped.",
    )
    heldout_networks: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Networks (with their restarts) that the prior does not learn from, to report its density on.",
    )
    mixture_components: Annotated[int, Field(ge=1)] = Field(default=8, description="Of the scale mixture.")
    batch_size: Annotated[int, Field(ge=1)] = Field(default=20, description="Kernels per step.")
    schedule: ScheduleParameters = Field(
        default=ScheduleParameters(patience=15), description="Learning rate and length of the VAEs' training."
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Of weights and batches of the VAEs.")
    carry_source_network: bool = Field(
        default=True, description="The prior file carries one network trained on the whole source set."
    )
    further_sources: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]] = Field(
        default=[],
        description="Folders of received_kernels/ in data_root, whose kernels the prior is learnt from too.",
    )

    @model_validator(mode="after")
    def _sources_are_different(self) -> PriorLearningParameters:
        if len(set(self.further_sources)) < len(self.further_sources):
            raise ValueError(f"further_sources: {self.further_sources} names a source twice")
        return self


class ExportPriorParameters(Parameters):
    """What goes into a prior file that is handed over."""

    source_network: bool = Field(
        default=False,
        description="Carry the source network and its posterior along; see docs/priors.md for what they reveal.",
    )
