"""What the networks of a mixture are worth alone and together, from its trained cells; nothing is trained.

    python benchmarks/components.py hippocampus_to_lgg dwp_mix components.csv

Each component trains with the gradients it would get alone, so component 0 of ``dwp_mix`` is a ``dwp_pr`` with
another stream of noise. Scored are the test subjects, or those set aside for choosing recipes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from dwp_kedro.cohorts.splits import scored_subjects
from dwp_kedro.parameters import ComputeParameters, GridParameters, PredictionParameters
from dwp_kedro.pipelines.architectures import rebuild
from dwp_kedro.pipelines.core import compute_settings
from dwp_kedro.pipelines.target_evaluation.pipeline import grid_cells
from dwp_kedro.pipelines.volumes import Volumes, label_id, load_image
from dwp_kedro.training.losses import hard_dice
from dwp_kedro.training.prediction import predict

PROJECT = Path(__file__).parents[1]


def main() -> None:
    """Write a table with a row per cell and first k components, and one per component alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment")
    parser.add_argument("method", help="a method with several components, all of whose cells are trained")
    parser.add_argument("output", type=Path, help="CSV file to write")
    parser.add_argument(
        "--set-aside", action="store_true", help="score on the subjects set aside, not on the test set"
    )
    arguments = parser.parse_args()
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=arguments.environment) as session:
        context = session.load_context()
        scored_on = "set_aside" if arguments.set_aside else "test"
        table = score_components(context.catalog, context.params, arguments.method, scored_on)
    table.to_csv(arguments.output, index=False)


def labels(volumes: Volumes, subject: str) -> torch.Tensor:
    """Return a subject's label map (x, y, z)."""
    return torch.from_numpy(volumes[label_id(subject)]().array)


def score_components(
    catalog: CatalogProtocol, parameters: dict[str, Any], method: str, scored_on: Literal["test", "set_aside"]
) -> pd.DataFrame:
    """Return columns method, n_train, split, seed, components (numbers joined by +) and the mean DSC."""
    grid = GridParameters.model_validate(parameters["grid"])
    compute = compute_settings(ComputeParameters.model_validate(parameters["compute"]))
    prediction = PredictionParameters.model_validate(parameters["prediction"])
    volumes, splits = catalog.load("data_processing.target.volumes"), catalog.load("data_processing.splits")
    rows = []
    for cell in (cell for cell in grid_cells(grid) if cell.method == method):
        checkpoint = catalog.load(f"target_evaluation.{cell.name}.checkpoint")
        networks = rebuild(checkpoint)
        names = scored_subjects(splits, cell.split, scored_on)
        n_channels = checkpoint.metadata["input"]["channels"]
        truths = [labels(volumes, name) for name in names]
        of_component = [
            [
                predicted.probability
                for predicted in predict(
                    [network],
                    lambda index, names=names, n=n_channels: load_image(volumes, names[index], n),
                    len(names),
                    task=f"{cell.label} component {k}",
                    compute=compute,
                    n_samples=prediction.n_samples,
                    seed=cell.draw_seed,
                )
            ]
            for k, network in enumerate(networks)
        ]
        alone = [(k,) for k in range(len(networks))]
        together = [tuple(range(k)) for k in range(2, len(networks) + 1)]
        for chosen in alone + together:
            scores = [
                hard_dice(torch.stack(probabilities).mean(0).argmax(0)[None], truth[None], len(probabilities[0]))
                for *probabilities, truth in zip(*(of_component[k] for k in chosen), truths, strict=True)
            ]
            row = {"method": method, "n_train": cell.n_train, "split": cell.split, "seed": cell.seed}
            rows.append({**row, "components": "+".join(map(str, chosen)), "dsc": torch.cat(scores).mean().item()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
