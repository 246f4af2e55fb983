"""From source networks to one portable prior."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.kernel_pool import heldout_networks, pool_kernels
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import NetworkPrior, pack_prior, unpack_prior
from dwp_kedro.evaluation.figures import kernel_figure
from dwp_kedro.lineage.declare import depends_on
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    NetworkParameters,
    PriorLearningParameters,
    SourceTrainingParameters,
)
from dwp_kedro.pipelines.core import compute_settings, history_table, library_versions, schedule_settings
from dwp_kedro.pipelines.prior_card import (
    Architecture,
    GroupFacts,
    GroupFigures,
    KernelsCard,
    PriorCard,
    SourceFacts,
    source_facts,
)
from dwp_kedro.training.kernel_prior import (
    collect_kernels,
    fit_controls,
    learn_prior,
    prior_metrics,
    smallest_norm,
)
from dwp_kedro.training.seeds import make_generator

_SHOWN = 24  # kernels in a picture


def collect_group(group: KernelGroup, **checkpoints: Checkpoint) -> KernelTensor:
    """Collect the kernels of one group from all source networks; the arguments are named by network."""
    return collect_kernels({name: checkpoint.weights for name, checkpoint in checkpoints.items()}, group)


def learn_group(
    kernels: KernelTensor,
    learning: PriorLearningParameters,
    compute: ComputeParameters,
    group: KernelGroup,
    **further: KernelTensor,
) -> tuple[Checkpoint, pd.DataFrame, dict[str, float]]:
    """Fit a group's VAE and its controls to all networks but the held-out ones, and judge them on those.

    ``further`` are kernels of other sources, named ``from_{source}``; of each its last networks are held out too.
    """
    pooled = pool_kernels(kernels, _by_source(further))
    heldout_names = heldout_networks(pooled.network, learning.heldout_networks)
    flat = pooled.kernels.flatten(1)
    is_heldout = torch.tensor([name in heldout_names for name in pooled.network])
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
        gradient_norm=learning.gradient_norm,
        seed=learning.seed,
        compute=compute_settings(compute),
    )
    controls = fit_controls(fitted, learning.mixture_components)
    metrics = prior_metrics(prior, controls, fitted, heldout)
    metrics["n_dropped"] = float((~kept).sum())
    metrics["train_seconds"] = history.seconds
    facts = GroupFacts(label=group.label, layers=list(group.layers), figures=GroupFigures(**metrics))
    by_kind = {kind: {group.name: density} for kind, density in controls.items()}
    packed = pack_prior(NetworkPrior({group.name: prior}, facts.model_dump(), by_kind))
    return packed, history_table(history), metrics


def draw_kernels(
    kernels: KernelTensor, checkpoint: Checkpoint, group: KernelGroup, **further: KernelTensor
) -> Figure:
    """Show kernels of the source networks beside samples of the prior (the paper's Fig. 5).

    ``further`` are those that the prior was learnt from too, see :func:`learn_group`.
    """
    learnt_from = pool_kernels(kernels, _by_source(further)).kernels
    prior = unpack_prior(checkpoint).groups[group.name]
    generator = make_generator(0, "shown kernels")
    chosen = torch.randperm(len(learnt_from), generator=generator)[:_SHOWN]
    samples = prior.sample(_SHOWN, generator).view(-1, 3, 3, 3)
    return kernel_figure(learnt_from[chosen].numpy(), samples.numpy(), f"{group.name}: {group.label}")


def gather_sources(**cards: dict[str, Any]) -> dict[str, Any]:
    """Put what further sources say of themselves into one table; the arguments are named by source."""
    return {name: KernelsCard.read(card).source_cohort.model_dump() for name, card in cards.items()}


@depends_on(
    cohort=lambda cohort: [cohort, cohort.description, cohort.licence],
    training=lambda training: [training.n_networks, training.restart is not None, training.l2],
)
def assemble_prior(
    cohort: CohortParameters,
    subjects: pd.DataFrame,
    training: SourceTrainingParameters,
    learning: PriorLearningParameters,
    network: NetworkParameters,
    further_sources: dict[str, Any] | None = None,
    source_network: Checkpoint | None = None,
    source_posterior: Checkpoint | None = None,
    **groups: Checkpoint,
) -> Checkpoint:
    """Put the groups' priors, the card and perhaps a source network and its posterior into one portable file.

    It holds no scan, no subject's name and no path. A network that it carries has seen the own cohort alone.
    """
    parts = {name: unpack_prior(checkpoint) for name, checkpoint in groups.items()}
    own = source_facts(cohort, subjects, training)
    further = {name: SourceFacts.read(facts) for name, facts in (further_sources or {}).items()}
    sources = [own, *further.values()]
    card = PriorCard(
        title=f"Deep weight prior from {', '.join(source.name for source in sources)}",
        architecture=Architecture(network="UNet3D", channels=list(network.channels)),
        groups={name: GroupFacts.read(part.card) for name, part in parts.items()},
        source_cohort=own,
        further_sources=further,
        n_networks_learnt_from=sum(source.n_networks - learning.heldout_networks for source in sources),
        n_networks_held_out=len(sources) * learning.heldout_networks,
        carries_source_network=source_network is not None,
        carries_source_posterior=source_posterior is not None,
        licence="; ".join(dict.fromkeys(source.licence for source in sources)),
        versions=library_versions(),
    )
    kinds = {kind for part in parts.values() for kind in part.controls}
    return pack_prior(
        NetworkPrior(
            {name: part.groups[name] for name, part in parts.items()},
            card.model_dump(),
            {kind: {name: part.controls[kind][name] for name, part in parts.items()} for kind in sorted(kinds)},
            source_network.weights if source_network else {},
            source_posterior.weights if source_posterior else {},
        )
    )


def summarise_groups(**metrics: dict[str, float]) -> pd.DataFrame:
    """List every group's VAE beside densities that know less; the arguments are named by group."""
    return pd.DataFrame([{"group": name, **values} for name, values in metrics.items()])


def _by_source(further: dict[str, KernelTensor]) -> dict[str, KernelTensor]:
    return {name.removeprefix("from_"): kernels for name, kernels in further.items()}
