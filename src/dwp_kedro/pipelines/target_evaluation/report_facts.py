"""What the report says in words: the cohorts, the prior, the experiment, the run and what computed it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import psutil
import torch

from dwp_kedro.parameters import CohortParameters, GridParameters, MethodParameters, TargetTrainingParameters
from dwp_kedro.pipelines.prior_card import PriorCard, SourceFacts
from dwp_kedro.training.hardware import processor_name


def source_blocks(sources: Sequence[SourceFacts]) -> dict[str, dict[str, str]]:
    """Describe every source cohort of a prior, as its card does, in a block of its own."""
    if not sources:
        return {"Source": {"cohort": "nothing", "description": "no method takes anything from a source"}}
    headings = ["Source"] if len(sources) == 1 else [f"Source {place}" for place in range(1, len(sources) + 1)]
    return {
        heading: {
            "cohort": source.name,
            "description": source.description,
            "licence": source.licence,
            "subjects": str(source.n_subjects),
            "networks": f"{source.n_networks}{' and their restarts' if source.restarted else ''}",
            "channels": str(source.channels),
            "classes": ", ".join(source.classes),
        }
        for heading, source in zip(headings, sources, strict=True)
    }


def prior_facts(card: PriorCard, this_run: Mapping[str, str]) -> dict[str, str]:
    """Say where the prior comes from, and what came with it."""
    carried = {
        "one source network": card.carries_source_network,
        "snapshots of its weights": card.carries_source_posterior,
    }
    if "prior file" in this_run:
        origin = {"received as": this_run["prior file"], "sha256": this_run["prior sha256"]}
        made = ", ".join(f"{name} {version}" for name, version in card.versions.items())
        origin["made with"] = made
    else:
        origin = {"origin": "learnt here"}
        if card.further_sources:
            origin["kernels received of"] = ", ".join(card.further_sources)
    return {
        **origin,
        "licence": card.licence,
        "networks learnt from": str(card.n_networks_learnt_from),
        "networks held out": str(card.n_networks_held_out),
        "carries": " and ".join(name for name, is_carried in carried.items() if is_carried) or "no source network",
    }


def target_facts(cohort: CohortParameters, manifest: pd.DataFrame) -> dict[str, str]:
    """Describe the target cohort as it was trained on."""
    return {
        "cohort": cohort.name,
        "description": cohort.description,
        "licence": cohort.licence,
        "subjects": str(len(manifest)),
        "classes": ", ".join(cohort.class_names),
        "network grid": "×".join(map(str, cohort.preprocessing.grid or ("each volume's own",))),
        "voxel size": _voxel_size(cohort),
    }


def _voxel_size(cohort: CohortParameters) -> str:
    if cohort.spacing == "unknown":
        return "unknown: distances and volumes are in voxels"
    if cohort.spacing == "header":
        return "from the scans, in mm"
    return f"{' × '.join(f'{side:g}' for side in cohort.spacing)} mm, declared in place of the scans' headers"


def experiment_facts(environment: str, grid: GridParameters, training: TargetTrainingParameters) -> dict[str, str]:
    """Say what was compared, and how it was trained."""
    return {
        "environment": environment,
        "methods": ", ".join(grid.methods),
        "training volumes": ", ".join(map(str, grid.n_train)),
        **_design(grid),
        **({} if training.patches is None else {"patches": "×".join(map(str, training.patches.size))}),
        "augmentation": "none" if training.augmentation is None else "on, the same for all methods",
    }


def methods_in_words(
    grid: GridParameters, methods: Mapping[str, Any], training: TargetTrainingParameters
) -> dict[str, str]:
    """Say of each method that runs what it is, out of its record in ``methods``, which are not validated yet."""
    records = {name: MethodParameters.model_validate(methods[name]) for name in grid.methods}
    return {name: _in_words(method, method.trained_with(training)) for name, method in records.items()}


def method_facts(
    grid: GridParameters, methods: Mapping[str, Any], training: TargetTrainingParameters
) -> dict[str, str]:
    """Say of each method that runs what it is and how its posterior was trained: by its own settings."""
    facts = methods_in_words(grid, methods, training)
    for name, words in facts.items():
        method = MethodParameters.model_validate(methods[name])
        settings = method.trained_with(training)
        if method.priors:
            facts[name] = (
                f"{words}; temperature {settings['temperature']:g}, {settings['estimator'].replace('_', ' ')}, "
                f"{settings['kernel_fraction']:.3g} of the kernels per step, log-variances at "
                f"{settings['log_variance_rate']:g} times the learning rate"
            )
    return facts


def _in_words(method: MethodParameters, settings: Mapping[str, Any]) -> str:
    network = "MONAI's DynUNet" if method.network == "dynunet" else "U-Net"
    several = method.components > 1
    words = f"{method.components} {network}s averaged" if several else network
    words += {
        "he": ", random start",
        "prior": ", start drawn from the prior",
        "source": ", started at source networks" if several else ", started at a source network",
    }[method.start]
    if method.trained_layers is not None:
        words += f", of which only {', '.join(method.trained_layers)} train"
    if not method.priors:
        return words
    names = " and ".join(prior.replace("_", " ") for prior in method.priors)
    if settings["temperature"] == 0:
        return f"{words}, with the noise of a posterior under the {names}, without that prior's pull"
    return f"{words}, under the prior: {names}"


def run_facts(this_run: Mapping[str, str]) -> dict[str, str]:
    """Say when the run began that wrote the report, and from which code."""
    return {"began": this_run["started"], "commit": this_run["commit"] or "not known: not a Git repository"}


def computing_facts(timings: pd.DataFrame) -> dict[str, str]:
    """Say what the cells were trained on, and what this machine is, which writes the report.

    ``timings`` has the columns device and precision.
    """
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "trained on": _counted(timings["device"]),
        "precision": _counted(timings["precision"]),
        "report written on": f"{processor_name()}, {os.cpu_count()} logical cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory",
        "threads of torch": str(torch.get_num_threads()),
        "GPUs": ", ".join(gpus) or "none",
        "system": platform.platform(),
    }


def _counted(texts: pd.Series) -> str:
    counts = texts.value_counts(sort=False)
    if len(counts) == 1:
        return str(counts.index[0])
    return "; ".join(f"{text} ({count} {'cell' if count == 1 else 'cells'})" for text, count in counts.items())


def _design(grid: GridParameters) -> dict[str, str]:
    """Say in words how often is trained and on whom is tested."""
    sizes_by_draws: dict[int, list[int]] = {}
    for n_train in grid.n_train:
        sizes_by_draws.setdefault(grid.splits_of(n_train), []).append(n_train)
    draws = [
        str(count) if len(sizes_by_draws) == 1 else f"{count} at n = {', '.join(map(str, sizes))}"
        for count, sizes in sizes_by_draws.items()
    ]
    if grid.scored_on == "set_aside":
        tested = f"{len(set(grid.set_aside))} set aside for choosing recipes"
    elif isinstance(grid.test_set, list):
        tested = f"{len(set(grid.test_set))}, the same in all draws, fixed by name"
    else:
        tested = f"{grid.n_test}, {'the same in all draws' if grid.test_set == 'fixed' else 'new in every draw'}"
    return {
        "draws (splits)": "; ".join(draws),
        "seeds of a draw": "its own" if grid.seeds == "per_split" else ", ".join(map(str, grid.seeds)),
        "test subjects": tested,
    }
