"""Nodes of one grid cell: train, predict, score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import unpack_prior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.cohorts.splits import test_subjects, training_subjects
from dwp_kedro.cohorts.subjects import cohort_fingerprint, own_grid, own_labels
from dwp_kedro.evaluation.scores import score_cell
from dwp_kedro.evaluation.summary import cell_metrics
from dwp_kedro.imaging.preprocessing import to_own_grid
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.networks.checkpoint import Checkpoint, load_weights
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    MethodParameters,
    NetworkParameters,
    PredictionParameters,
    TargetTrainingParameters,
)
from dwp_kedro.pipelines.core import compute_settings, history_table, library_versions, schedule_settings
from dwp_kedro.pipelines.volumes import Volumes, channel_count, image_id, label_id, load_image, stack_volumes
from dwp_kedro.training.loop import train
from dwp_kedro.training.segmentation import predict
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import (
    Method,
    PosteriorSettings,
    draw_from_priors,
    make_objective,
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
    source_network: Checkpoint | None = None,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Train a network on the cell's training volumes, under its method's prior; no other label is seen."""
    names = training_subjects(splits, cell.split, cell.n_train)
    n_channels = channel_count(subjects)
    images, labels = stack_volumes(volumes, names, n_channels)
    priors = _priors(prior)
    start = new_network(n_channels, len(cohort.class_names) + 1, network.channels, cell.draw_seed)
    if method.start == "prior":
        draw_from_priors(start, kernel_groups(start, n_channels), priors, cell.draw_seed)
    elif method.start == "source":
        load_weights(start, _source_weights(prior, source_network, cell), "the source network")
    fields = asdict(PosteriorSettings())
    posterior_settings = PosteriorSettings(**{name: getattr(training, name) for name in fields})
    trained_layers = None if method.trained_layers is None else tuple(method.trained_layers)
    objective, trained = make_objective(
        start,
        Method(method.prior, trained_layers),
        priors,
        posterior_settings,
        training.dice_weight,
        len(names),
    )
    history = train(
        objective,
        (images, labels),
        task=f"target {cell.label}",
        batch_size=training.batch_size,
        schedule=schedule_settings(training.schedule),
        seed=cell.draw_seed,
        compute=compute_settings(compute),
    )
    metadata = {
        "network": "BayesianNetwork(UNet3D)" if method.prior != "none" else "UNet3D",
        "arguments": start.arguments,
        "cell": asdict(cell),
        "method": method.model_dump(mode="json"),
        "seed": cell.draw_seed,
        "training": training.model_dump(mode="json"),
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
    inner = trained.network if method.prior != "none" else trained
    assert isinstance(inner, nn.Module)
    return Checkpoint(inner.cpu().state_dict(), metadata), history_table(history)


def predict_cell(
    checkpoint: Checkpoint,
    volumes: Volumes,
    splits: pd.DataFrame,
    manifest: pd.DataFrame,
    cohort: CohortParameters,
    prediction: PredictionParameters,
    compute: ComputeParameters,
    cell: Cell,
) -> tuple[dict[str, Volume], dict[str, Volume], pd.DataFrame]:
    """Segment the split's test subjects, on the network's grid and on each scan's own.

    The table of the subjects is saved after the predictions, and so says that they are whole.
    """
    names = test_subjects(splits, cell.split)
    rows = manifest.set_index("subject", drop=False)
    probabilities = predict(
        trained_network(checkpoint),
        lambda index: load_image(volumes, names[index], checkpoint.metadata["arguments"]["in_channels"]),
        len(names),
        task=f"predicting {cell.label}",
        compute=compute_settings(compute),
        n_samples=prediction.n_samples,
        seed=cell.draw_seed,
    )
    on_grid, on_own_grid = {}, {}
    for name, probability in zip(names, probabilities, strict=True):
        affine = volumes[image_id(name, 0)]().affine
        label = probability.argmax(0).to(torch.uint8).numpy()
        on_grid[name] = Volume.from_array(label, affine)
        own_shape, own_affine = own_grid(rows.loc[name].to_dict(), cohort)
        own = to_own_grid(probability.numpy(), affine, own_shape, own_affine)
        on_own_grid[name] = Volume.from_array(own, own_affine)
    return on_grid, on_own_grid, pd.DataFrame({"subject": names})


def score_predictions(
    predictions: Volumes,
    own_grid_predictions: Volumes,
    predicted: pd.DataFrame,
    volumes: Volumes,
    manifest: pd.DataFrame,
    cohort: CohortParameters,
    checkpoint: Checkpoint,
    cell: Cell,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Score every predicted subject: overlap, distance, volume; and overlap on the scan's own grid."""
    names = predicted["subject"].tolist()
    rows = manifest.set_index("subject", drop=False)

    def array_of(load: Callable[[], Volume]) -> Callable[[], np.ndarray]:
        return lambda: load().array

    def spacing_of(name: str) -> Callable[[], tuple[float, float, float]]:
        return lambda: volumes[label_id(name)]().spacing

    def own_labels_of(name: str) -> Callable[[], np.ndarray]:
        return lambda: own_labels(rows.loc[name].to_dict(), cohort)

    scores = score_cell(
        method=cell.method,
        n_train=cell.n_train,
        split=cell.split,
        seed=cell.seed,
        predictions={name: array_of(predictions[name]) for name in names},
        truths={name: array_of(volumes[label_id(name)]) for name in names},
        own_grid_predictions={name: array_of(own_grid_predictions[name]) for name in names},
        own_grid_truths={name: own_labels_of(name) for name in names},
        spacings=None if cohort.spacing == "unknown" else {name: spacing_of(name) for name in names},
        class_names=cohort.class_names,
    )
    return scores, cell_metrics(scores, checkpoint.metadata["metrics"])


def trained_network(checkpoint: Checkpoint) -> nn.Module:
    """Rebuild the network of a cell's checkpoint, plain or Bayesian, with its weights."""
    unet = UNet3D(**checkpoint.metadata["arguments"])
    source = f"the checkpoint of {checkpoint.metadata['cell']}"
    if checkpoint.metadata["network"] == "UNet3D":
        load_weights(unet, checkpoint.weights, source)
        return unet
    groups = kernel_groups(unet, unet.in_channels)
    posterior = BayesianNetwork(unet, groups, {group.name: 1.0 for group in groups})  # σ is loaded below
    load_weights(posterior.network, checkpoint.weights, source)
    return posterior


def _priors(prior: Checkpoint | None) -> dict[str, DeepWeightPrior]:
    return {} if prior is None else unpack_prior(prior).groups


def _source_weights(
    prior: Checkpoint | None, source_network: Checkpoint | None, cell: Cell
) -> dict[str, torch.Tensor]:
    """Return the source network of this project, or else the one that a received prior carries."""
    if source_network is not None:
        return source_network.weights
    assert prior is not None
    return unpack_prior(prior).require_source_network(cell.method)
