"""The hook that refuses colleagues' kernels which do not fit, before anything runs."""

from __future__ import annotations

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.kernel_pool import find_misfits
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.pipelines.prior_card import KERNELS_FORMAT

_RECEIVED = "received_kernels."


class KernelFitHook:
    """Looks at all kernels of further sources that the run would learn from."""

    @hook_impl(tryfirst=True)  # before a run is opened in MLflow, and after the check that the files exist
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check layers, values, numbers of networks, and cards.

        Raises:
            ValueError: if some do not fit; the message names all sources and groups that do not.
        """
        names = sorted(n for n in pipeline.inputs() if n.startswith(_RECEIVED) and catalog.exists(n))
        if not names:
            return
        groups = {group.name: group for group in kernel_groups(UNet3D(), in_channels=1)}
        n_heldout = catalog.load("params:prior_learning").heldout_networks
        problems = []
        for name in names:
            source, part = name.removeprefix(_RECEIVED).rsplit(".", 1)
            content = catalog.load(name)
            if part in groups:
                problems += find_misfits(source, content, groups[part], n_heldout)
            elif content.get("format") != KERNELS_FORMAT:
                problems.append(
                    f"{source}, card.json: its format is {content.get('format')}, not {KERNELS_FORMAT}"
                )
        if problems:
            raise ValueError(
                "kernels in received_kernels/ do not fit:\n  "
                + "\n  ".join(problems)
                + "\nAsk their owners for a folder that `kedro run --pipelines export_kernels` of this version "
                "wrote, or leave the source out of prior_learning.further_sources."
            )
