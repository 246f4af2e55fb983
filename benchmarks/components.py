"""What the networks of a mixture are worth alone and together, from its trained cells; nothing is trained.

    python benchmarks/components.py hippocampus_to_lgg dwp_mix components.csv
    python benchmarks/components.py hippocampus_to_lgg pr,dwp_mix components.csv --n-train 10

The second one also averages all networks that both methods have of a draw.

Each component trains with the gradients it would get alone, so component 0 of ``dwp_mix`` is a ``dwp_pr`` with
another stream of noise. Scored are the test subjects, or those set aside for choosing recipes. A draw of which not
all methods are trained is left out.
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
    parser.add_argument("methods", help="one of grid.methods, or several joined by commas")
    parser.add_argument("output", type=Path, help="CSV file to write")
    parser.add_argument("--n-train", type=int, help="only cells of so many training volumes; without it, all")
    parser.add_argument(
        "--set-aside", action="store_true", help="score on the subjects set aside, not on the test set"
    )
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=arguments.environment) as session:
        context = session.load_context()
        grid = GridParameters.model_validate(context.params["grid"])
        if len(set(methods)) < len(methods) or not set(methods) <= set(grid.methods):
            parser.error(f"methods: any of {', '.join(grid.methods)}, each once, not {arguments.methods}")
        if arguments.n_train not in (None, *grid.n_train):
            parser.error(f"--n-train: this grid has {grid.n_train}, not {arguments.n_train}")
        cells = [cell for cell in grid_cells(grid) if cell.method in methods]
        draws = trained_draws(
            context.catalog, [c for c in cells if arguments.n_train in (None, c.n_train)], methods
        )
        scored_on = "set_aside" if arguments.set_aside else "test"
        table = score_components(context.catalog, context.params, draws, scored_on)
    table.to_csv(arguments.output, index=False)


def trained_draws(catalog: CatalogProtocol, cells: list[Cell], methods: list[str]) -> list[list[Cell]]:
    """Return the cells of each draw of which all methods are trained, in the order of ``methods``.

    Raises:
        SystemExit: There is no such draw.
    """
    of_draw: dict[tuple[int, int, int], dict[str, Cell]] = {}
    for cell in cells:
        of_draw.setdefault((cell.n_train, cell.split, cell.seed), {})[cell.method] = cell
    trained = [
        [by_method[method] for method in methods]
        for by_method in of_draw.values()
        if all(catalog.exists(f"target_evaluation.{cell.name}.checkpoint") for cell in by_method.values())
    ]
    print(f"{len(trained)} of {len(of_draw)} draws are trained")
    if not trained:
        raise SystemExit("kedro run --env ENVIRONMENT trains them.")
    return trained


def labels(volumes: Volumes, subject: str) -> Tensor:
    """Return a subject's label map (x, y, z)."""
    return torch.from_numpy(volumes[label_id(subject)]().array)


def score_components(
    catalog: CatalogProtocol,
    parameters: dict[str, Any],
    draws: list[list[Cell]],
    scored_on: Literal["test", "set_aside"],
) -> pd.DataFrame:
    """Score each draw's cells, which have one n_train, split and seed.

    Returns:
        Columns method, n_train, split, seed, scored_on, components (numbers joined by +, or ``all``) and the mean
        DSC. The rows of several methods together, which have all their components, name them joined by +.
    """
    compute = compute_settings(ComputeParameters.model_validate(parameters["compute"]))
    prediction = PredictionParameters.model_validate(parameters["prediction"])
    volumes, splits = catalog.load("data_processing.target.volumes"), catalog.load("data_processing.splits")
    rows = []
    for cells in draws:
        draw = {"n_train": cells[0].n_train, "split": cells[0].split, "seed": cells[0].seed}
        names = scored_subjects(splits, draw["split"], scored_on)
        truths = [labels(volumes, name) for name in names]
        together: dict[str, list[list[Tensor]]] = {}
        for cell in cells:
            checkpoint = catalog.load(f"target_evaluation.{cell.name}.checkpoint")
            n_channels = checkpoint.metadata["input"]["channels"]
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
                for k, network in enumerate(rebuild(checkpoint))
            ]
        chosen = {
            (method, "+".join(map(str, ks))): [of_component[k] for k in ks]
            for method, of_component in together.items()
            for ks in _choices(len(of_component))
        }
        if len(together) > 1:
            chosen["+".join(together), "all"] = [each for networks in together.values() for each in networks]
        for (method, components), of_networks in chosen.items():
            scores = [
                hard_dice(torch.stack(probabilities).mean(0).argmax(0)[None], truth[None], len(probabilities[0]))
                for *probabilities, truth in zip(*of_networks, truths, strict=True)
            ]
            row = {"method": method, **draw, "scored_on": scored_on, "components": components}
            rows.append({**row, "dsc": round(torch.cat(scores).mean().item(), 5)})
    return pd.DataFrame(rows)


def _choices(n: int) -> list[tuple[int, ...]]:
    """Each of ``n`` components alone, then the first two, three and so on."""
    return [(k,) for k in range(n)] + [tuple(range(k)) for k in range(2, n + 1)]


if __name__ == "__main__":
    main()
