"""What is compared: methods, and the grid of cells they train in."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dwp_kedro.parameters.base import Parameters
from dwp_kedro.parameters.training import TargetTrainingParameters, TrainingOverrides

MethodName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


PriorName = Literal["deep_weight_prior", "scale_mixture", "gaussian", "standard_normal", "source_posterior"]


class MethodParameters(Parameters):
    """Which network, where its weights start, which prior acts on them, which layers train."""

    network: Literal["unet", "dynunet"] = Field(
        default="unet", description="dynunet: MONAI's network of about the same size, as a stock rival."
    )
    start: Literal["he", "prior", "source"] = Field(
        description="Where the weights start: random (He), samples of the prior, or a source network."
    )
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
    target_training: TrainingOverrides = Field(
        default=TrainingOverrides(), description="What this method sets otherwise than target_training."
    )

    @property
    def priors(self) -> tuple[PriorName, ...]:
        """The acting priors; empty for a plain network."""
        if self.prior == "none":
            return ()
        return (self.prior,) if isinstance(self.prior, str) else tuple(self.prior)

    def trained_with(self, training: TargetTrainingParameters) -> dict[str, Any]:
        """Return the settings of this method's training: its own, and else the block's.

        The posterior's are None for a plain network, which has no posterior.
        """
        acting = training.overridden(self.target_training).model_dump(mode="json")
        return acting if self.priors else {**acting, **dict.fromkeys(TrainingOverrides.model_fields)}

    @model_validator(mode="after")
    def _rivals_start_from_scratch(self) -> MethodParameters:
        if self.network != "unet" and (self.start != "he" or self.priors):
            raise ValueError("network: only the U-Net has source networks and priors; others need start: he")
        return self


_RESERVED_METHODS = (
    "summary",
    "settled_first",
    "data_processing",
    "source_training",
    "prior_learning",
    "target_evaluation",
)


class GridParameters(Parameters):
    """Methods × train sizes × splits × seeds; the one place that defines them."""

    methods: Annotated[list[MethodName], Field(min_length=1)] = Field(
        default=["ri", "pr", "prf", "dwp"], description="Names of records in the block `methods`."
    )
    n_train: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = Field(
        default=[5, 10, 15, 20],
        description="Sizes of the training set, subjects; smaller ones are in larger ones.",
    )
    n_splits: Annotated[int, Field(ge=1)] | dict[int, Annotated[int, Field(ge=1)]] = Field(
        default=3, description="Draws of the training volumes: one number, or one by train size."
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | Literal["per_split"] = Field(
        default=[0], description="Every split with each of these seeds, or split d with seed d alone (per_split)."
    )
    n_test: Annotated[int, Field(ge=1)] = Field(
        default=50, description="Subjects in the test set, unless test_set names them."
    )
    test_set: Literal["per_split", "fixed"] | Annotated[list[str], Field(min_length=1)] = Field(
        default="per_split",
        description="New in every split (the paper), one for all splits (fixed), or its subjects by name.",
    )
    set_aside: list[str] = Field(default=[], description="Subjects for choosing recipes: never train or test.")
    scored_on: Literal["test", "set_aside"] = Field(
        default="test", description="set_aside: score on the subjects for choosing recipes, not on the test set."
    )
    split_seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Of the draws of subjects.")
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
