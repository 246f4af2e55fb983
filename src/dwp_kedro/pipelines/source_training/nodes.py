"""Source networks, one node each."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dwp_kedro.cohorts.subjects import cohort_fingerprint
from dwp_kedro.networks.checkpoint import Checkpoint, load_weights
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    NetworkParameters,
    SourceTrainingParameters,
)
from dwp_kedro.pipelines.core import (
    compute_settings,
    history_table,
    library_versions,
    schedule_settings,
)
from dwp_kedro.pipelines.volumes import Volumes, channel_count, stack_volumes
from dwp_kedro.training.source import bootstrap_sample, mean_dice, new_network, train_source

Outputs = tuple[Checkpoint, pd.DataFrame, dict[str, float]]


def train_bootstrap_network(
    volumes: Volumes,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    network: NetworkParameters,
    compute: ComputeParameters,
    index: int,
) -> Outputs:
    """Train one network on a bootstrap sample, and score it on the subjects that sample left out."""
    seed = training.seed + index
    unet = _new_unet(subjects, cohort, network, seed)
    return _train(unet, volumes, subjects, cohort, training, compute, seed, f"network {index}", bootstrap=True)


def restart_network(
    checkpoint: Checkpoint,
    volumes: Volumes,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    network: NetworkParameters,
    compute: ComputeParameters,
    index: int,
) -> Outputs:
    """Put a converged network's learning rate back up and let it converge again, on the same sample."""
    unet = _new_unet(subjects, cohort, network, seed=0)
    load_weights(unet, checkpoint.weights, f"source_training.network_{index}.checkpoint")
    assert training.restart is not None
    restart = training.model_copy(update={"schedule": training.restart})
    task = f"network {index} restarted"
    return _train(unet, volumes, subjects, cohort, restart, compute, training.seed + index, task, bootstrap=True)


def train_whole_network(
    volumes: Volumes,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    network: NetworkParameters,
    compute: ComputeParameters,
    seed: int,
) -> Outputs:
    """Train a network on the whole source set (Algorithm 2): where methods that start from one begin."""
    unet = _new_unet(subjects, cohort, network, seed)
    return _train(unet, volumes, subjects, cohort, training, compute, seed, f"whole {seed}", bootstrap=False)


def summarise_networks(**metrics: dict[str, float]) -> pd.DataFrame:
    """List every source network with its scores and its cost; the arguments are named by network."""
    return pd.DataFrame([{"network": name, **values} for name, values in metrics.items()])


def _new_unet(subjects: pd.DataFrame, cohort: CohortParameters, network: NetworkParameters, seed: int) -> UNet3D:
    return new_network(channel_count(subjects), len(cohort.class_names) + 1, network.channels, seed)


def _train(
    unet: UNet3D,
    volumes: Volumes,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    compute: ComputeParameters,
    seed: int,
    name: str,
    *,
    bootstrap: bool,
) -> Outputs:
    names: list[str] = sorted(subjects["subject"])
    images, labels = stack_volumes(volumes, names, unet.in_channels)
    rows = bootstrap_sample(len(names), seed) if bootstrap else list(range(len(names)))
    history = train_source(
        unet,
        images,
        labels,
        task=f"source {name}",
        schedule=schedule_settings(training.schedule),
        batch_size=training.batch_size,
        dice_weight=training.dice_weight,
        l2=training.l2,
        seed=seed,
        compute=compute_settings(compute),
        rows=rows,
    )
    metrics = {
        "train_dsc": history.rows[-1]["train_dsc"],
        "train_seconds": history.seconds,
        "peak_memory_mb": history.peak_memory_mb,
        "n_subjects": float(len(set(rows))),
    }
    left_out = sorted(set(range(len(names))) - set(rows))
    if left_out:
        metrics["left_out_dsc"] = mean_dice(
            unet,
            images[left_out],
            labels[left_out],
            task=f"scoring source {name}",
            compute=compute_settings(compute),
        )
    metadata: dict[str, Any] = {
        "network": "UNet3D",
        "arguments": unet.arguments,
        "seed": seed,
        "training": training.model_dump(mode="json"),
        "cohort": cohort.name,
        "cohort_fingerprint": cohort_fingerprint(subjects, cohort),
        "n_subjects": len(set(rows)),
        "metrics": metrics,
        "versions": library_versions(),
    }
    return Checkpoint(unet.cpu().state_dict(), metadata), history_table(history), metrics
