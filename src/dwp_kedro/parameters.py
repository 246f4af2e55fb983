"""What the YAML parameters may say: one validated model per block, with units and ranges.

Kedro validates these models before any node runs, because nodes name them as the type of their ``params:``
inputs. An unknown key is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Spacing = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
GridSide = Annotated[int, Field(ge=16, multiple_of=8)]
Grid = tuple[GridSide, GridSide, GridSide]


class Parameters(BaseModel):
    """Base of all parameter blocks: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- cohorts -----------------------------------------------------------------------------------------------


class BratsReader(Parameters):
    """BraTS folders of any year: ``<case>/<case>_t2.nii.gz``, ``<case>-t2w.nii.gz`` and so on."""

    layout: Literal["brats"]
    folder: Path = Field(description="Folder that holds one folder per subject, or HGG/ and LGG/ of them.")
    channels: Annotated[list[str], Field(min_length=1)] = Field(
        description="Modalities by name, one per input channel: t1, t1ce, t2, flair."
    )


class DecathlonReader(Parameters):
    """Medical Segmentation Decathlon: ``dataset.json``, ``imagesTr/``, ``labelsTr/``."""

    layout: Literal["decathlon"]
    folder: Path = Field(description="Task folder, the one with dataset.json.")
    channels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        default=[0], description="Indices into the fourth axis of the images; [0] for 3D images."
    )


class SubjectFoldersReader(Parameters):
    """One folder per subject; file names given by patterns in which ``{subject}`` is the folder's name."""

    layout: Literal["subject_folders"]
    folder: Path
    channels: Annotated[list[str], Field(min_length=1)] = Field(
        description="One file pattern per input channel, for example '{subject}_flair.nii.gz' or '*flair*'."
    )
    label: str = Field(description="File pattern of the label map.")


class CsvReader(Parameters):
    """A CSV manifest with the columns subject, image (or image_0, image_1, …), label and optionally group."""

    layout: Literal["csv"]
    file: Path
    folder: Path = Field(description="Root of the paths in the file; none of them may leave it.")


class PhantomReader(Parameters):
    """Made-up scans, written once to ``folder`` (one folder per subject) and then read like real ones."""

    layout: Literal["phantom"]
    folder: Path
    disease: Literal["plaques", "tumour"]
    n_subjects: Annotated[int, Field(ge=2)]
    seed: int = 0


Reader = Annotated[
    BratsReader | DecathlonReader | SubjectFoldersReader | CsvReader | PhantomReader,
    Field(discriminator="layout"),
]


class PreprocessingParameters(Parameters):
    """From a scan on its own grid to a network's input.

    Order: canonical orientation (RAS), resampling to ``spacing``, foreground crop, fit to ``grid``, intensity
    normalisation (zero mean, unit variance over the foreground).
    """

    spacing: Spacing | None = Field(default=None, description="Resample to this voxel size, mm; null: leave.")
    crop_foreground: bool = Field(default=False, description="Cut away the margin without foreground.")
    foreground_threshold: float | None = Field(
        default=0.0,
        description="Voxels above it, in the scan's own intensity units, are foreground; null: all voxels.",
    )
    grid: Grid = Field(description="Size of the network's input, voxels; sides are multiples of 8, at least 16.")
    fit: Literal["pad_crop", "resample"] = Field(
        default="pad_crop",
        description="Reach the grid by centred padding and cropping, or by resampling straight to it.",
    )


class CohortParameters(Parameters):
    """One set of labelled scans."""

    name: Annotated[str, Field(min_length=1)]
    description: str = Field(description="In words, as it may stand on a prior's card; no subject, no path.")
    licence: str = "unknown"
    reader: Reader
    spacing: Literal["header", "unknown"] | Spacing = Field(
        default="header",
        description="Where the voxel size comes from: the header, nowhere (distances and volumes are then in "
        "voxels), or three numbers in mm, along the file's own axes, that replace the header's.",
    )
    labels: Literal["above_zero"] | int | list[int] | dict[str, list[int]] = Field(
        default="above_zero",
        description="Foreground: everything above 0, one value, a set, or classes by name, each a set.",
    )
    exclude: list[str] = Field(
        default=[], description="Subjects left out by name, for example those with unusable files."
    )
    preprocessing: PreprocessingParameters

    @model_validator(mode="after")
    def _classes_are_disjoint(self) -> CohortParameters:
        values = (
            [value for members in self.labels.values() for value in members]
            if isinstance(self.labels, dict)
            else []
        )
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"labels: the values {repeated} belong to several classes; give each to one")
        return self

    @property
    def class_names(self) -> list[str]:
        """Names of the foreground classes, in the order of their label values 1, 2, …."""
        return list(self.labels) if isinstance(self.labels, dict) else ["foreground"]


# --- training ----------------------------------------------------------------------------------------------


class ComputeParameters(Parameters):
    """Where and how training runs."""

    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        default="auto", description="auto: bf16-mixed where the hardware computes in bfloat16, else 32-true."
    )
    state_folder: Path = Field(description="Where unfinished trainings keep their last state.")
    state_every_seconds: Annotated[float, Field(ge=0)] = Field(
        default=60.0, description="Least time between two saved states of a training, s."
    )


class ScheduleParameters(Parameters):
    """Learning rate and length of a training. The plateau schedule is the paper's Table 1."""

    kind: Literal["plateau", "cosine"] = "plateau"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
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
            raise ValueError("the cosine schedule needs max_steps")
        return self


class NetworkParameters(Parameters):
    """The U-Net's widths at resolutions 1/1, 1/2, 1/4, 1/8."""

    channels: tuple[int, int, int, int] = (16, 32, 32, 64)


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
    gamma_range: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.7, 1.5)
    noise: Annotated[float, Field(ge=0, le=1)] = Field(default=0.3, description="Chance of Gaussian noise.")
    noise_sigma: Annotated[float, Field(ge=0)] = Field(
        default=0.15, description="Largest standard deviation of the noise, in those of the foreground."
    )


class SegmentationTraining(Parameters):
    """What source and target training share."""

    batch_size: Annotated[int, Field(ge=1)] = 2
    dice_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.99, description="Loss = dice_weight·(1 − soft Dice) + (1 − dice_weight)·cross-entropy."
    )
    schedule: ScheduleParameters = ScheduleParameters()
    augmentation: AugmentationParameters | None = Field(default=None, description="null: none.")


class SnapshotParameters(Parameters):
    """Snapshots along further training of a network on the whole source set (SWAG, Maddox et al. 2019)."""

    learning_rate: Annotated[float, Field(gt=0)] = Field(default=1e-3, description="Constant.")
    n_snapshots: Annotated[int, Field(ge=2)] = 20
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
        "modulo their number.",
    )
    snapshots: SnapshotParameters | None = Field(
        default=None, description="For the prior source_posterior; null: none are taken."
    )


class PriorLearningParameters(Parameters):
    """One VAE per kernel group."""

    latent_dim: Annotated[int, Field(ge=1)] = 6
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
    batch_size: Annotated[int, Field(ge=1)] = 20
    schedule: ScheduleParameters = ScheduleParameters(patience=15)
    seed: int = 0
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


MethodName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


PriorName = Literal["deep_weight_prior", "scale_mixture", "gaussian", "standard_normal", "source_posterior"]


class TrainingOverrides(Parameters):
    """What a method may set otherwise than the block `target_training` does; null: as there.

    Data, schedule, augmentation and stopping are the same for all methods, so they are not among these.
    """

    temperature: Annotated[float, Field(ge=0)] | None = None
    warm_up_steps: Annotated[int, Field(ge=0)] | None = None
    estimator: Literal["weight_samples", "local_reparameterisation"] | None = None
    initial_sigma: Annotated[float, Field(gt=0)] | None = None
    kernel_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    train_encoder: bool | None = None
    source_scale: Annotated[float, Field(gt=0)] | None = None


class MethodParameters(Parameters):
    """Which network, where its weights start, which prior acts on them, which layers train."""

    network: Literal["unet", "dynunet"] = Field(
        default="unet", description="dynunet: MONAI's network of about the same size, as a stock rival."
    )
    start: Literal["he", "prior", "source"]
    prior: Literal["none"] | PriorName | Annotated[list[PriorName], Field(min_length=2)] = Field(
        default="none",
        description="none: a plain network. One prior, or several as an unnormalised product: a posterior.",
    )
    trained_layers: list[str] | None = Field(default=None, description="Top-level layers; null: all.")
    components: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="Networks trained side by side on the same batches, each from its own start, whose "
        "probabilities are averaged: a mixture posterior, or without a prior an ensemble.",
    )
    target_training: TrainingOverrides = TrainingOverrides()

    @property
    def priors(self) -> tuple[PriorName, ...]:
        """The acting priors; empty for a plain network."""
        if self.prior == "none":
            return ()
        return (self.prior,) if isinstance(self.prior, str) else tuple(self.prior)

    @model_validator(mode="after")
    def _rivals_start_from_scratch(self) -> MethodParameters:
        if self.network != "unet" and (self.start != "he" or self.priors):
            raise ValueError("network: only the U-Net has source networks and priors; others need start: he")
        return self


_RESERVED_METHODS = ("summary", "data_processing", "source_training", "prior_learning", "target_evaluation")


class GridParameters(Parameters):
    """Methods × train sizes × splits × seeds; the one place that defines them."""

    methods: Annotated[list[MethodName], Field(min_length=1)] = Field(
        default=["ri", "pr", "prf", "dwp"], description="Names of records in the block `methods`."
    )
    n_train: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [5, 10, 15, 20]
    n_splits: Annotated[int, Field(ge=1)] | dict[int, Annotated[int, Field(ge=1)]] = Field(
        default=3, description="Draws of the training volumes: one number, or one by train size."
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | Literal["per_split"] = Field(
        default=[0], description="Every split with each of these seeds, or split d with seed d alone (per_split)."
    )
    n_test: Annotated[int, Field(ge=1)] = Field(default=50, description="Unless test_set names the subjects.")
    test_set: Literal["per_split", "fixed"] | Annotated[list[str], Field(min_length=1)] = Field(
        default="per_split",
        description="New in every split (the paper), one for all splits (fixed), or its subjects by name.",
    )
    set_aside: list[str] = Field(default=[], description="Subjects for choosing recipes: never train or test.")
    scored_on: Literal["test", "set_aside"] = Field(
        default="test", description="set_aside: score on the subjects for choosing recipes, not on the test set."
    )
    split_seed: Annotated[int, Field(ge=0)] = 0
    reference: MethodName | None = Field(
        default=None,
        description="Method that the others are compared with; null: dwp if it is there, else the last.",
    )

    @property
    def reference_method(self) -> str:
        """The method that the others are compared with."""
        return self.reference or ("dwp" if "dwp" in self.methods else self.methods[-1])

    def splits_of(self, n_train: int) -> int:
        """Return the number of draws of ``n_train`` training volumes."""
        return self.n_splits if isinstance(self.n_splits, int) else self.n_splits[n_train]

    def seeds_of(self, split: int) -> list[int]:
        """Return the seeds that a split is trained with."""
        return [split] if self.seeds == "per_split" else list(self.seeds)

    @property
    def most_splits(self) -> int:
        """The largest number of draws at any train size."""
        return max(self.splits_of(n_train) for n_train in self.n_train)

    @model_validator(mode="after")
    def _values_make_cells_of_their_own(self) -> GridParameters:
        for name in ("methods", "n_train", "seeds"):
            values = getattr(self, name)
            if not isinstance(values, str) and len(set(values)) < len(values):
                raise ValueError(f"{name}: {values} names a value twice")
        if isinstance(self.n_splits, dict) and set(self.n_splits) != set(self.n_train):
            raise ValueError(f"n_splits: needs one number for each of n_train {self.n_train}")
        if self.scored_on == "set_aside" and not self.set_aside:
            raise ValueError("scored_on: set_aside names no subject")
        if self.reference is not None and self.reference not in self.methods:
            raise ValueError(f"reference: {self.reference} is not among the methods {', '.join(self.methods)}")
        # A method's name is a tag too, beside those that select nodes in other ways.
        taken = [m for m in self.methods if m in _RESERVED_METHODS or re.fullmatch(r"(n|split|seed)\d+", m)]
        if taken:
            raise ValueError(f"methods: {', '.join(taken)} is a tag of other nodes; give the method another name")
        return self


class TargetTrainingParameters(SegmentationTraining):
    """Training of a grid cell."""

    temperature: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="loss = data term + temperature·KL / (N·V); 1 is the bound, 0 no prior."
    )
    warm_up_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Steps over which the temperature rises linearly from 0."
    )
    estimator: Literal["weight_samples", "local_reparameterisation"] = "local_reparameterisation"
    initial_sigma: Annotated[float, Field(gt=0)] = Field(
        default=0.1,
        description="Posterior standard deviation at the start, as a fraction of the group's scale.",
    )
    kernel_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="Share of each group's kernels whose cross-entropy is sampled in a step."
    )
    train_encoder: bool = Field(default=True, description="Train the kernel VAEs' encoders along (Algorithm 1).")
    source_scale: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="The source posterior's covariance is multiplied by it."
    )

    def overridden(self, overrides: TrainingOverrides) -> TargetTrainingParameters:
        """Return these parameters with a method's own in their place."""
        return self.model_copy(update=overrides.model_dump(exclude_none=True))


class PredictionParameters(Parameters):
    """Prediction of test volumes."""

    n_samples: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Weight samples averaged; 0: one pass at the posterior mean."
    )


# --- new scans ---------------------------------------------------------------------------------------------


class InputParameters(Parameters):
    """What a cell's networks take, as its checkpoint says: all that a new scan must go through."""

    channels: Annotated[int, Field(ge=1)]
    class_names: Annotated[list[str], Field(min_length=1)] = Field(
        description="Foreground classes, in the order of their label values 1, 2, …."
    )
    spacing: Literal["header", "unknown"] | Spacing
    preprocessing: PreprocessingParameters


class PostprocessingParameters(Parameters):
    """What is done to the masks of new scans, class by class, in this order; nothing by default."""

    fill_holes: bool = Field(default=False, description="Background that a class encloses becomes that class.")
    largest_component: bool = Field(default=False, description="Keep only the largest component.")
    min_volume: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Take out smaller components, ml; voxels where the checkpoint declares the spacing unknown.",
    )


class NewScansParameters(Parameters):
    """Prediction of scans that no cell has seen."""

    n_samples: Annotated[int, Field(ge=0)] = Field(
        default=8,
        description="Weight samples averaged per Bayesian network; 0: one pass at the posterior mean, which is as "
        "fast as a plain network's and gives no uncertainty either.",
    )
    pictures: bool = Field(default=False, description="Write a picture of every scan with its mask outlined.")
    postprocessing: PostprocessingParameters = PostprocessingParameters()
