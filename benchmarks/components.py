"""What the networks of a mixture are worth alone and together, from its trained cells; nothing is trained.

    python benchmarks/components.py hippocampus_to_lgg dwp_mix components.csv
    python benchmarks/components.py hippocampus_to_lgg pr,dwp_mix components.csv --n-train 10

The second one also averages all networks that both methods have of a draw.

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
from torch import Tensor

from dwp_kedro.cohorts.splits import scored_subjects
from dwp_kedro.parameters import ComputeParameters, GridParameters, PredictionParameters
from dwp_kedro.pipelines.architectures import rebuild
from dwp_kedro.pipelines.core import compute_settings
from dwp_kedro.pipelines.target_evaluation.cell import Cell
from dwp_kedro.pipelines.target_evaluation.pipeline import grid_cells
from dwp_kedro.pipelines.volumes import Volumes, label_id, load_image
from dwp_kedro.training.losses import hard_dice
from dwp_kedro.training.prediction import predict

PROJECT = Path(__file__).parents[1]


def main() -> None:
    """Write a table: rows per cell of its first k components, of each alone, and of all methods together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment")
    parser.add_argument("methods", help="one whose cells are all trained, or several joined by commas")
    parser.add_argument("output", type=Path, help="CSV file to write")
    parser.add_argument("--n-train", type=int, help="only cells of so many training volumes; without it, all")
    parser.add_argument(
        "--set-aside", action="store_true", help="score on the subjects set aside, not on the test set"
    )
    arguments = parser.parse_args()
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=arguments.environment) as session:
        context = session.load_context()
        scored_on = "set_aside" if arguments.set_aside else "test"
        cells = grid_cells(GridParameters.model_validate(context.params["grid"]))
        cells = [cell for cell in cells if arguments.n_train in (None, cell.n_train)]
        table = score_components(context.catalog, context.params, cells, arguments.methods.split(","), scored_on)
    table.to_csv(arguments.output, index=False)


def labels(volumes: Volumes, subject: str) -> Tensor:
    """Return a subject's label map (x, y, z)."""
    return torch.from_numpy(volumes[label_id(subject)]().array)


def score_components(
    catalog: CatalogProtocol,
    parameters: dict[str, Any],
    cells: list[Cell],
    methods: list[str],
    scored_on: Literal["test", "set_aside"],
) -> pd.DataFrame:
    """Return columns method, n_train, split, seed, components (numbers joined by +, or ``all``) and the mean DSC.

    The rows of several methods together, which have all their components, name them joined by commas.
    """
    compute = compute_settings(ComputeParameters.model_validate(parameters["compute"]))
    prediction = PredictionParameters.model_validate(parameters["prediction"])
    volumes, splits = catalog.load("data_processing.target.volumes"), catalog.load("data_processing.splits")
    rows = []
    cells = [cell for cell in cells if cell.method in methods]
    for draw in sorted({(cell.n_train, cell.split, cell.seed) for cell in cells}):
        together: dict[str, list[list[Tensor]]] = {}
        for cell in (cell for cell in cells if (cell.n_train, cell.split, cell.seed) == draw):
            checkpoint = catalog.load(f"target_evaluation.{cell.name}.checkpoint")
            networks = rebuild(checkpoint)
            names = scored_subjects(splits, cell.split, scored_on)
            n_channels = checkpoint.metadata["input"]["channels"]
            truths = [labels(volumes, name) for name in names]
            together[cell.method] = [
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
        chosen = {
            (method, "+".join(map(str, ks))): [of_component[k] for k in ks]
            for method, of_component in together.items()
            for ks in _choices(len(of_component))
        }
        if len(methods) > 1:
            chosen[",".join(methods), "all"] = [each for method in methods for each in together[method]]
        for (method, components), of_networks in chosen.items():
            scores = [
                hard_dice(torch.stack(probabilities).mean(0).argmax(0)[None], truth[None], len(probabilities[0]))
                for *probabilities, truth in zip(*of_networks, truths, strict=True)
            ]
            row = {"method": method, **dict(zip(("n_train", "split", "seed"), draw, strict=True))}
            rows.append({**row, "components": components, "dsc": torch.cat(scores).mean().item()})
    return pd.DataFrame(rows)


def _choices(n: int) -> list[tuple[int, ...]]:
    """Each of ``n`` components alone, then the first two, three and so on."""
    return [(k,) for k in range(n)] + [tuple(range(k)) for k in range(2, n + 1)]


if __name__ == "__main__":
    main()
