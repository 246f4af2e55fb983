"""One grid cell: what it is, and the node that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior, unpack_prior
from dwp_kedro.cohorts.splits import training_subjects
from dwp_kedro.cohorts.subjects import cohort_fingerprint
from dwp_kedro.lineage.declare import depends_on
from dwp_kedro.networks.checkpoint import Checkpoint, load_weights
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    MethodParameters,
    NetworkParameters,
    TargetTrainingParameters,
)
from dwp_kedro.pipelines.architectures import network_arguments, new_architecture
from dwp_kedro.pipelines.core import (
    compute_settings,
    history_table,
    library_versions,
    schedule_settings,
    warn_of_collapse,
)
from dwp_kedro.pipelines.training_data import training_data, training_transform
from dwp_kedro.pipelines.volumes import Volumes, channel_count
from dwp_kedro.training.loop import train
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.target import (
    Method,
    MixtureObjective,
    PosteriorSettings,
    draw_from_priors,
    initial_scales,
    kernel_priors,
    make_objective,
    make_prior,
)


@dataclass(frozen=True)
class Cell:
    """One point of the grid: a method on a training subset with a seed."""

    method: str
    n_train: int
    split: int
    seed: int

    @property
    def name(self) -> str:
        """The cell's namespace within ``target_evaluation``."""
        return f"{self.method}.n{self.n_train}_split{self.split}_seed{self.seed}"

    @property
    def label(self) -> str:
        """The cell in words, as progress shows it."""
        return f"{self.method} n{self.n_train} split{self.split} seed{self.seed}"

    @property
    def draw_seed(self) -> int:
        """Seed of all the cell's randomness.

        It is shared by the methods and the train sizes of a split, so that they differ in nothing else.
        """
        return 1000 * self.seed + self.split

    def component_seed(self, component: int) -> int:
        """Seed of the start of one of the cell's networks; the first has the cell's own."""
        return self.draw_seed + 1_000_000 * component


def _training_rows(splits: pd.DataFrame, cell: Cell) -> list[str]:
    own = (splits["split"] == cell.split) & (splits["role"] == "train") & (splits["rank"] < cell.n_train)
    return splits[own].sort_values("rank")["subject"].tolist()


def _that_acts(training: TargetTrainingParameters, method: MethodParameters) -> dict[str, Any]:
    return method.trained_with(training)


@depends_on(splits=_training_rows, training=_that_acts)
def train_cell(
    volumes: Volumes,
    subjects: pd.DataFrame,
    splits: pd.DataFrame,
    cohort: CohortParameters,
    method: MethodParameters,
    training: TargetTrainingParameters,
    network: NetworkParameters,
    compute: ComputeParameters,
    cell: Cell,
    prior: Checkpoint | None = None,
    **sources: Checkpoint,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Train a cell's networks on its training volumes, under its method's prior; no other label is seen.

    ``sources`` are named ``source_network_{k}`` and ``source_posterior_{k}``, one per component of the method.
    """
    names = training_subjects(splits, cell.split, cell.n_train)
    n_channels = channel_count(subjects)
    acting = method.trained_with(training)
    training = training.overridden(method.target_training)
    received = None if prior is None else unpack_prior(prior)
    objectives, networks = [], []
    for k in range(method.components):
        start = new_architecture(
            method.network, n_channels, len(cohort.class_names) + 1, network.channels, cell.component_seed(k)
        )
        objective, trained = start_component(
            start, n_channels, method, training, received, sources, cell, k, len(names)
        )
        objectives.append(objective)
        networks.append(trained)
    history = train(
        objectives[0] if method.components == 1 else MixtureObjective(objectives),
        training_data(volumes, names, n_channels, training),
        task=f"target {cell.label}",
        batch_size=training.batch_size,
        schedule=schedule_settings(training.schedule),
        gradient_norm=training.gradient_norm,
        seed=cell.draw_seed,
        compute=compute_settings(compute),
        transform=training_transform(training),
    )
    warn_of_collapse(history, f"target {cell.label}")
    metadata = {
        **network_arguments(networks[0]),
        "components": method.components,
        "cell": asdict(cell),
        "method": method.model_dump(mode="json"),
        "seed": cell.draw_seed,
        "training": acting,
        "device": history.device,
        "precision": history.precision,
        "input": {  # all that a new scan must go through; no path, no subject
            "channels": n_channels,
            "class_names": cohort.class_names,
            "spacing": cohort.model_dump(mode="json")["spacing"],
            "preprocessing": cohort.preprocessing.model_dump(mode="json"),
            "patch": training.patches and list(training.patches.size),
        },
        "cohort": cohort.name,
        "cohort_fingerprint": cohort_fingerprint(subjects, cohort),
        "metrics": {
            "train_dsc": history.rows[-1]["train_dsc"],
            "train_seconds": history.seconds,
            "train_steps": history.rows[-1]["step"],
            "peak_memory_mb": history.peak_memory_mb,
        },
        "versions": library_versions(),
    }
    weights = {
        f"component_{k}/{name}": tensor
        for k, trained in enumerate(networks)
        for name, tensor in trained.cpu().state_dict().items()
    }
    return Checkpoint(weights, metadata), history_table(history)


def start_component(
    start: nn.Module,
    n_channels: int,
    method: MethodParameters,
    training: TargetTrainingParameters,
    received: NetworkPrior | None,
    sources: Mapping[str, Checkpoint],
    cell: Cell,
    k: int,
    n_volumes: int,
) -> tuple[Objective, nn.Module]:
    """Put one of the method's networks at its start and under its prior."""
    settings = PosteriorSettings(**{name: getattr(training, name) for name in asdict(PosteriorSettings())})
    needs_groups = method.start == "prior" or method.priors
    groups = kernel_groups(start, n_channels) if needs_groups else ()
    if method.start == "source":
        source = sources.get(f"source_network_{k}")
        if source is None:
            assert received is not None
            load_weights(start, received.require_source_network(cell.method), "the prior's source network")
        else:
            load_weights(start, source.weights, "the source network")
    elif method.start == "prior":
        kind = next((name for name in method.priors if name != "source_posterior"), "deep_weight_prior")
        draw_from_priors(start, groups, kernel_priors(kind, received, groups), cell.component_seed(k))
    return make_objective(
        start,
        groups,
        Method(method.priors, None if method.trained_layers is None else tuple(method.trained_layers)),
        make_prior(method.priors, received, sources.get(f"source_posterior_{k}"), settings, groups),
        initial_scales(start, groups),
        settings,
        training.dice_weight,
        n_volumes,
    )
