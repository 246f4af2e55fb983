"""Training of networks: hardware, schedule, augmentation, and the objective of a grid cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dwp_kedro.parameters.base import NO_EFFECT_ON_RESULTS, Grid, Parameters


class ComputeParameters(Parameters):
    """Where and how training runs."""

    device: str = Field(
        default="auto", description="auto, cpu, cuda, cuda:1, mps.", json_schema_extra=NO_EFFECT_ON_RESULTS
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the hardware computes in bfloat16, else 32-true."
    )
    state_folder: Path = Field(
        description="Where unfinished trainings keep their last state.", json_schema_extra=NO_EFFECT_ON_RESULTS
    )
    state_every_seconds: Annotated[float, Field(ge=0)] = Field(
        default=60.0,
        description="Least time between two saved states of a training, s.",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )


class ScheduleParameters(Parameters):
    """Learning rate and length of a training. The plateau schedule is the paper's Table 1."""

    kind: Literal["plateau", "cosine"] = Field(
        default="plateau", description="Fall when progress stops, or along half a cosine of known length."
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(default=1e-3, description="Adam's, at the start.")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.1, description="Plateau: multiplies the rate.")
    patience: Annotated[int, Field(ge=0)] = Field(default=10, description="Plateau: epochs without progress.")
    threshold: Annotated[float, Field(ge=0)] = Field(
        default=1e-4, description="Plateau: the least fall of the data term that counts as progress."
    )
    min_learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=1e-6, description="Plateau: training stops at this rate. Cosine: the rate at the end."
    )
    max_epochs: Annotated[int, Field(ge=1)] = Field(default=500, description="Plateau only.")
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Optimiser steps: at most (plateau), or exactly (cosine, which needs it)."
    )

    @model_validator(mode="after")
    def _cosine_needs_length(self) -> ScheduleParameters:
        if self.kind == "cosine" and self.max_steps is None:
            raise ValueError("max_steps: the cosine schedule needs its length")
        return self


Width = Annotated[int, Field(ge=1)]


class NetworkParameters(Parameters):
    """The U-Net's widths at resolutions 1/1, 1/2, 1/4, 1/8."""

    channels: tuple[Width, Width, Width, Width] = Field(
        default=(16, 32, 32, 64), description="Feature maps at each resolution, finest first; the paper's."
    )


class AugmentationParameters(Parameters):
    """Random changes of the training volumes, drawn anew at each step; the same for every method."""

    flip: Annotated[float, Field(ge=0, le=1)] = Field(default=0.5, description="Chance of a mirror per axis.")
    affine: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="Chance of a rotation, scaling and shift together."
    )
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(
        default=15.0, description="Largest angle about each axis, degrees."
    )
    scaling: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.15, description="Largest relative change of size per axis."
    )
    shift: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Largest shift per axis, as a share of the side."
    )
    intensity: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="Chance of an intensity shift and scale."
    )
    intensity_shift: Annotated[float, Field(ge=0)] = Field(
        default=0.2, description="Largest shift, in standard deviations of the foreground."
    )
    intensity_scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.2, description="Largest relative change of contrast."
    )
    gamma: Annotated[float, Field(ge=0, le=1)] = Field(default=0.3, description="Chance of a gamma curve.")
    gamma_range: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(0.7, 1.5), description="Least and largest exponent of the gamma curve."
    )
    noise: Annotated[float, Field(ge=0, le=1)] = Field(default=0.3, description="Chance of Gaussian noise.")
    noise_sigma: Annotated[float, Field(ge=0)] = Field(
        default=0.15, description="Largest standard deviation of the noise, in those of the foreground."
    )


class PatchParameters(Parameters):
    """Training on patches, one of each volume in every epoch; where it lies is drawn anew at each step."""

    size: Grid = Field(
        description="[x, y, z] in voxels; multiples of 8, at least 16, on a CPU in bfloat16 24. Smaller volumes "
        "are padded with zeros."
    )
    positive: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="Share of patches centred on a voxel of a foreground class, …"
    )
    negative: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="… and of those centred on background; at a volume's border patches move inwards."
    )

    @model_validator(mode="after")
    def _some_patches(self) -> PatchParameters:
        if self.positive == self.negative == 0:
            raise ValueError("positive: it and negative are both 0, so there is no patch; raise one of them")
        return self


class GradientClipping(Parameters):
    """What every block of a training has."""

    gradient_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Largest Euclidean norm of a step's gradient, over all weights together; a longer one is "
        "scaled down to it. null: never.",
    )


class SegmentationTraining(GradientClipping):
    """What source and target training share."""

    batch_size: Annotated[int, Field(ge=1)] = Field(default=2, description="Volumes per step.")
    dice_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.99, description="Loss = dice_weight·(1 − soft Dice) + (1 − dice_weight)·cross-entropy."
    )
    schedule: ScheduleParameters = Field(
        default=ScheduleParameters(), description="Learning rate and length of the training."
    )
    augmentation: AugmentationParameters | None = Field(default=None, description="null: none.")
    patches: PatchParameters | None = Field(default=None, description="null: whole volumes.")


_AS_IN_BLOCK = "Of this method alone; null: as in target_training."


class TrainingOverrides(Parameters):
    """What a method may set otherwise than the block `target_training` does; null: as there.

    Data, schedule, augmentation and stopping are the same for all methods, so they are not among these.
    """

    temperature: Annotated[float, Field(ge=0)] | None = Field(default=None, description=_AS_IN_BLOCK)
    warm_up_steps: Annotated[int, Field(ge=0)] | None = Field(default=None, description=_AS_IN_BLOCK)
    estimator: Literal["weight_samples", "local_reparameterisation"] | None = Field(
        default=None, description=_AS_IN_BLOCK
    )
    initial_sigma: Annotated[float, Field(gt=0)] | None = Field(default=None, description=_AS_IN_BLOCK)
    log_variance_rate: Annotated[float, Field(ge=1)] | None = Field(default=None, description=_AS_IN_BLOCK)
    kernel_fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, description=_AS_IN_BLOCK)
    train_encoder: bool | None = Field(default=None, description=_AS_IN_BLOCK)
    source_scale: Annotated[float, Field(gt=0)] | None = Field(default=None, description=_AS_IN_BLOCK)


class TargetTrainingParameters(SegmentationTraining):
    """Training of a grid cell."""

    temperature: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="loss = data term + temperature·KL / (N·V); 1 is the bound, 0 no prior."
    )
    warm_up_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Steps over which the temperature rises linearly from 0."
    )
    estimator: Literal["weight_samples", "local_reparameterisation"] = Field(
        default="weight_samples",
        description="Noise of the data term: one weight sample per batch (Algorithm 1), or drawn in every voxel.",
    )
    initial_sigma: Annotated[float, Field(gt=0)] = Field(
        default=0.1,
        description="Posterior standard deviation at the start, as a fraction of the root mean square of the "
        "starting network's kernels of that group.",
    )
    log_variance_rate: Annotated[float, Field(ge=1)] = Field(
        default=1.0,
        description="Learning rate of the posterior's log-variances, as a multiple of the schedule's. Adam moves "
        "each by about the rates' sum at most, so at 1 a short training leaves σ nearly as it starts.",
    )
    kernel_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.02, description="Share of each group's kernels whose cross-entropy is sampled in a step."
    )
    train_encoder: bool = Field(default=True, description="Train the kernel VAEs' encoders along (Algorithm 1).")
    source_scale: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="The source posterior's covariance is multiplied by it."
    )

    def overridden(self, overrides: TrainingOverrides) -> TargetTrainingParameters:
        """Return these parameters with a method's own in their place."""
        return self.model_copy(update=overrides.model_dump(exclude_none=True))
