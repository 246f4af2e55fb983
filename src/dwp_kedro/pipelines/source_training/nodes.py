"""Source networks, one node each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from dwp_kedro.cohorts.subjects import cohort_fingerprint
from dwp_kedro.lineage.declare import depends_on
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
    warn_of_collapse,
)
from dwp_kedro.pipelines.inference import make_inferer
from dwp_kedro.pipelines.training_data import training_data, training_transform
from dwp_kedro.pipelines.volumes import Volumes, channel_count, load_image, load_label
from dwp_kedro.training.loop import History
from dwp_kedro.training.settings import SnapshotSettings
from dwp_kedro.training.source import (
    SOURCE_START,
    bootstrap_sample,
    collect_source_posterior,
    mean_dice,
    new_network,
    similarity_to_start,
    train_source,
    whole_seed,
)

Outputs = tuple[Checkpoint, pd.DataFrame, dict[str, float]]
Sample = Literal["bootstrap", "whole"]


def _of_one_network(training: SourceTrainingParameters) -> dict[str, Any]:
    """Parameters of a network's training, which does not depend on how many others there are."""
    return training.model_dump(mode="json", exclude={"n_networks", "n_whole"})


def _before_snapshots(training: SourceTrainingParameters) -> dict[str, Any]:
    """The same for a network that has none taken yet."""
    return training.model_dump(mode="json", exclude={"n_networks", "n_whole", "snapshots"})


@depends_on(training=_before_snapshots)
def train_network(
    volumes: Volumes,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    network: NetworkParameters,
    compute: ComputeParameters,
    index: int,
    sample: Sample,
    checkpoint: Checkpoint | None = None,
) -> Outputs:
    """Train one source network, or restart it: put its learning rate back up and let it converge again.

    Networks on a bootstrap ``sample`` are those whose kernels are learnt; each is scored on the subjects that its
    sample left out. Where methods that start from a source network begin are networks on the whole source set
    (Algorithm 2). ``checkpoint`` is that of the converged network to restart, on the same sample.
    """
    seed, names = _seed(training, sample, index), _names(subjects)
    unet = _new_unet(subjects, cohort, network, seed)
    kind = "network" if sample == "bootstrap" else "whole"
    task = f"source {kind} {index}"
    if checkpoint is not None:
        assert training.restart is not None
        load_weights(unet, checkpoint.weights, f"source_training.{kind}_{index}.checkpoint")
        training = training.model_copy(update={"schedule": training.restart})
        task += " restarted"
    rows = bootstrap_sample(len(names), seed) if sample == "bootstrap" else list(range(len(names)))
    history = train_source(
        unet,
        training_data(volumes, names, unet.in_channels, training),
        task=task,
        schedule=schedule_settings(training.schedule),
        rows=rows,
        **_loop_arguments(training, compute, seed),
    )
    warn_of_collapse(history, task)
    metrics = _training_metrics(history, len(set(rows)))
    unet.cpu()
    metrics["similarity_to_start"] = similarity_to_start(unet, _new_unet(subjects, cohort, network, seed))
    left_out = [names[i] for i in sorted(set(range(len(names))) - set(rows))]
    if left_out:
        metrics["left_out_dsc"] = _score(unet, volumes, left_out, cohort, training, compute, f"scoring {task}")
    metadata = _metadata(unet, subjects, cohort, _before_snapshots(training), history, seed, metrics)
    return Checkpoint(unet.cpu().state_dict(), metadata), history_table(history), metrics


@depends_on(training=_of_one_network)
def take_snapshots(
    checkpoint: Checkpoint,
    volumes: Volumes,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    network: NetworkParameters,
    compute: ComputeParameters,
    index: int,
) -> Outputs:
    """Train a converged network on the whole source set on, and describe its weights by a Gaussian (SWAG).

    ``mean_weights_dsc`` among the metrics is that of the network at the Gaussian's mean, on the source set.
    """
    assert training.snapshots is not None
    seed, names = _seed(training, "whole", index), _names(subjects)
    unet = _new_unet(subjects, cohort, network, seed)
    load_weights(unet, checkpoint.weights, f"source_training.whole_{index}.checkpoint")
    weights, history = collect_source_posterior(
        unet,
        training_data(volumes, names, unet.in_channels, training),
        task=f"source posterior {index}",
        snapshots=SnapshotSettings(**training.snapshots.model_dump()),
        **_loop_arguments(training, compute, seed),
    )
    mean = {k.removeprefix("mean/"): tensor for k, tensor in weights.items() if k.startswith("mean/")}
    load_weights(unet, mean, f"the mean of whole_{index}'s weights")
    metrics = _training_metrics(history, len(names))
    task = f"scoring source posterior {index}"
    metrics["mean_weights_dsc"] = _score(unet, volumes, names, cohort, training, compute, task)
    metadata = _metadata(unet, subjects, cohort, _of_one_network(training), history, seed, metrics)
    metadata |= {"n_snapshots": training.snapshots.n_snapshots, "rank": training.snapshots.rank}
    return Checkpoint(weights, metadata), history_table(history), metrics


def summarise_networks(**metrics: dict[str, float]) -> pd.DataFrame:
    """List every source network with its scores and its cost; the arguments are named by network."""
    return pd.DataFrame([{"network": name, **values} for name, values in metrics.items()])


def _names(subjects: pd.DataFrame) -> list[str]:
    return sorted(subjects["subject"])


def _seed(training: SourceTrainingParameters, sample: Sample, index: int) -> int:
    return training.seed + index if sample == "bootstrap" else whole_seed(training.seed, index)


def _loop_arguments(training: SourceTrainingParameters, compute: ComputeParameters, seed: int) -> dict[str, Any]:
    return {
        "batch_size": training.batch_size,
        "dice_weight": training.dice_weight,
        "l2": training.l2,
        "gradient_norm": training.gradient_norm,
        "seed": seed,
        "compute": compute_settings(compute),
        "transform": training_transform(training),
    }


def _new_unet(subjects: pd.DataFrame, cohort: CohortParameters, network: NetworkParameters, seed: int) -> UNet3D:
    n_classes = len(cohort.class_names) + 1
    return new_network(channel_count(subjects), n_classes, network.channels, seed, SOURCE_START)


def _score(
    unet: UNet3D,
    volumes: Volumes,
    names: Sequence[str],
    cohort: CohortParameters,
    training: SourceTrainingParameters,
    compute: ComputeParameters,
    task: str,
) -> float:
    size = cohort.preprocessing.grid if training.patches is None else training.patches.size
    assert size is not None
    return mean_dice(
        unet,
        lambda i: load_image(volumes, names[i], unet.in_channels),
        lambda i: load_label(volumes, names[i]),
        len(names),
        task=task,
        compute=compute_settings(compute),
        infer=make_inferer("auto", size, [unet]),
    )


def _training_metrics(history: History, n_subjects: int) -> dict[str, float]:
    return {
        "train_dsc": history.rows[-1]["train_dsc"],
        "train_seconds": history.seconds,
        "peak_memory_mb": history.peak_memory_mb,
        "n_subjects": float(n_subjects),
    }


def _metadata(
    unet: UNet3D,
    subjects: pd.DataFrame,
    cohort: CohortParameters,
    training: dict[str, Any],
    history: History,
    seed: int,
    metrics: dict[str, float],
) -> dict[str, Any]:
    return {
        "network": "UNet3D",
        "arguments": unet.arguments,
        "seed": seed,
        "training": training,
        "device": history.device,
        "precision": history.precision,
        "cohort": cohort.name,
        "cohort_fingerprint": cohort_fingerprint(subjects, cohort),
        "n_subjects": int(metrics["n_subjects"]),
        "metrics": metrics,
        "versions": library_versions(),
    }
