"""From source networks to one portable prior."""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib.figure import Figure

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import NetworkPrior, pack_prior, unpack_prior
from dwp_kedro.evaluation.figures import kernel_figure
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    NetworkParameters,
    PriorLearningParameters,
    SourceTrainingParameters,
)
from dwp_kedro.pipelines.core import compute_settings, history_table, library_versions, schedule_settings
from dwp_kedro.pipelines.volumes import channel_count
from dwp_kedro.training.kernel_prior import collect_kernels, learn_prior, prior_metrics, smallest_norm
from dwp_kedro.training.seeds import make_generator

_SHOWN = 24  # kernels in a picture


def collect_group(group: KernelGroup, **checkpoints: Checkpoint) -> KernelTensor:
    """Collect the kernels of one group from all source networks; the arguments are named by network."""
    return collect_kernels({name: checkpoint.weights for name, checkpoint in checkpoints.items()}, group)


def learn_group(
    kernels: KernelTensor,
    learning: PriorLearningParameters,
    training: SourceTrainingParameters,
    compute: ComputeParameters,
    group: KernelGroup,
) -> tuple[Checkpoint, pd.DataFrame, dict[str, float]]:
    """Fit a group's VAE to all networks but the held-out ones, and judge it on those.

    A network and its restart share their bootstrap sample and most of their history, so they stay together.
    """
    heldout_names = {
        name
        for index in range(training.n_networks - learning.heldout_networks, training.n_networks)
        for name in (f"network_{index}", f"network_{index}_restarted")
    }
    flat = kernels.kernels.flatten(1)
    is_heldout = torch.tensor([name in heldout_names for name in kernels.network])
    kept = flat.norm(dim=1) > smallest_norm(flat[~is_heldout], learning.min_norm)
    fitted, heldout = flat[kept & ~is_heldout], flat[kept & is_heldout]
    if not len(fitted) or not len(heldout):
        raise ValueError(
            f"{group.name} ({group.label}): {len(fitted)} kernels to learn from and {len(heldout)} held out. "
            "source_training.n_networks must exceed prior_learning.heldout_networks, and "
            "prior_learning.min_norm must leave kernels over."
        )
    prior, history = learn_prior(
        fitted,
        task=f"prior {group.name}",
        latent_dim=learning.latent_dim,
        literal_heads=learning.heads == "literal",
        batch_size=learning.batch_size,
        schedule=schedule_settings(learning.schedule),
        seed=learning.seed,
        compute=compute_settings(compute),
    )
    metrics = prior_metrics(prior, fitted, heldout, learning.mixture_components)
    metrics["n_dropped"] = float((~kept).sum())
    metrics["train_seconds"] = history.seconds
    card = {"label": group.label, "layers": list(group.layers), "figures": metrics}
    return pack_prior(NetworkPrior({group.name: prior}, card)), history_table(history), metrics


def draw_kernels(kernels: KernelTensor, checkpoint: Checkpoint, group: KernelGroup) -> Figure:
    """Show kernels of the source networks beside samples of the prior (the paper's Fig. 5)."""
    prior = unpack_prior(checkpoint).groups[group.name]
    generator = make_generator(0, "shown kernels")
    chosen = torch.randperm(len(kernels.kernels), generator=generator)[:_SHOWN]
    samples = prior.sample(_SHOWN, generator).view(-1, 3, 3, 3)
    return kernel_figure(kernels.kernels[chosen].numpy(), samples.numpy(), f"{group.name}: {group.label}")


def assemble_prior(
    cohort: CohortParameters,
    subjects: pd.DataFrame,
    training: SourceTrainingParameters,
    learning: PriorLearningParameters,
    network: NetworkParameters,
    source_network: Checkpoint | None = None,
    **groups: Checkpoint,
) -> Checkpoint:
    """Put the groups' priors, the card and perhaps a source network into one portable file.

    It holds no scan, no subject's name and no path.
    """
    parts = {name: unpack_prior(checkpoint) for name, checkpoint in groups.items()}
    card = {
        "title": f"Deep weight prior from {cohort.name}",
        "architecture": {"network": "UNet3D", "channels": list(network.channels)},
        "groups": {name: part.card for name, part in parts.items()},
        "source_cohort": {
            "name": cohort.name,
            "description": cohort.description,
            "n_subjects": len(subjects),
            "channels": channel_count(subjects),
            "classes": cohort.class_names,
        },
        "n_networks_learnt_from": training.n_networks - learning.heldout_networks,
        "n_networks_held_out": learning.heldout_networks,
        "restarted": training.restart is not None,
        "l2": training.l2,
        "carries_source_network": source_network is not None,
        "licence": cohort.licence,
        "versions": library_versions(),
    }
    return pack_prior(
        NetworkPrior(
            {name: part.groups[name] for name, part in parts.items()},
            card,
            source_network.weights if source_network else {},
        )
    )


def summarise_groups(**metrics: dict[str, float]) -> pd.DataFrame:
    """List every group's VAE beside densities that know less; the arguments are named by group."""
    return pd.DataFrame([{"group": name, **values} for name, values in metrics.items()])
