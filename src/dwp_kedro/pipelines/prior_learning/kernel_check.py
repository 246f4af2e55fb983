"""The hook that refuses colleagues' kernels which do not fit, before anything runs."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from dwp_kedro.bayes.groups import KernelGroup, kernel_groups
from dwp_kedro.bayes.kernel_pool import HERE, count_networks, find_misfits, find_repeats
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.networks.checkpoint import CheckpointError
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines.prior_card import KernelsCard

_RECEIVED = "received_kernels."


class KernelFitHook:
    """Looks at all kernels of further sources that the run would learn from."""

    @hook_impl(tryfirst=True)  # before a run is opened in MLflow, and after the check that the files exist
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check cards, layers, values, numbers of networks, and that no network would count twice.

        Raises:
            CheckpointError: if some do not fit; the message names all sources and groups that do not.
        """
        names = [n for n in sorted(pipeline.inputs()) if n.startswith(_RECEIVED) and catalog.exists(n)]
        if not names:
            return
        problems: list[str] = []
        cards: dict[str, KernelsCard] = {}
        kernels: dict[str, dict[str, KernelTensor]] = {}
        for name in names:
            source, part = name.removeprefix(_RECEIVED).rsplit(".", 1)
            try:
                content: Any = catalog.load(name)
                if part == "card":
                    cards[source] = KernelsCard.read(content)
                else:
                    kernels.setdefault(part, {})[source] = content
            except (CheckpointError, DatasetError) as error:
                problems.append(f"{source}, {'card.json' if part == 'card' else part}: {error}")
        n_heldout = catalog.load("params:prior_learning").heldout_networks
        for group in kernel_groups(UNet3D(), in_channels=1):
            received = kernels.get(group.name, {})
            for source, tensor in received.items():
                problems += find_misfits(source, tensor, group, n_heldout)
                problems += _find_contradiction(source, tensor, group, cards.get(source))
            own = f"prior_learning.{group.name}.kernels"  # of an earlier run: a long one need not begin
            problems += find_repeats({HERE: catalog.load(own), **received} if catalog.exists(own) else received)
        if problems:
            raise CheckpointError(
                "kernels in received_kernels/ do not fit:\n  "
                + "\n  ".join(dict.fromkeys(problems))
                + "\nAsk their owners for a folder that `kedro run --pipelines export_kernels` of this version "
                "wrote, or leave the source out of prior_learning.further_sources."
            )


def _find_contradiction(
    source: str, kernels: KernelTensor, group: KernelGroup, card: KernelsCard | None
) -> list[str]:
    """Say whether card and kernels are of different exports."""
    n_networks = count_networks(kernels)
    if card is None or card.source_cohort.n_networks == n_networks:
        return []
    return [
        f"{source}, {group.name} ({group.label}): they are of {n_networks} network(s), card.json says "
        f"{card.source_cohort.n_networks}"
    ]
