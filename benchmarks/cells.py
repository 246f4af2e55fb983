"""The finished cells of an environment's grid as tables, a row per cell and a row per subject: docs/results/*.csv.

    python benchmarks/cells.py hippocampus_to_lgg cells.csv --subjects subjects.csv

A grid that is run in pieces has its reports of all its cells only at the end; this reads what there is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from dwp_kedro.parameters import GridParameters
from dwp_kedro.pipelines.target_evaluation.pipeline import grid_cells

PROJECT = Path(__file__).parents[1]
UNITS = {"voxel": "voxels", "mm": "mm"}


def main() -> None:
    """Write the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment")
    parser.add_argument("cells", type=Path, help="CSV file to write, a row per cell")
    parser.add_argument("--subjects", type=Path, help="CSV file to write, a row per cell and subject")
    arguments = parser.parse_args()
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=arguments.environment) as session:
        context = session.load_context()
        cells, subjects = finished_cells(context.catalog, context.params)
    cells.to_csv(arguments.cells, index=False)
    if arguments.subjects is not None:
        subjects.to_csv(arguments.subjects, index=False)
    print(f"{len(cells)} finished cells")


def finished_cells(catalog: CatalogProtocol, parameters: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of cells, with means over subjects and classes, and that of subjects.

    Scores are called after the subjects they are of, test or set_aside. DSC and IoU are shares, seconds those of
    training, memory the peak of the process; hd95 is in the unit named.

    Raises:
        SystemExit: No cell of the grid is finished.
    """
    rows, tables = [], []
    grid = GridParameters.model_validate(parameters["grid"])
    on = grid.scored_on
    for cell in grid_cells(grid):
        entry = f"target_evaluation.{cell.name}"
        if not (catalog.exists(f"{entry}.metrics") and catalog.exists(f"{entry}.scores")):
            continue
        metrics, scores = catalog.load(f"{entry}.metrics"), catalog.load(f"{entry}.scores")
        hd95 = f"hd95_{UNITS[scores['distance_unit'].iat[0]]}"
        of_cell = {"method": cell.method, "n_train": cell.n_train, "split": cell.split, "seed": cell.seed}
        rows.append(
            {
                **of_cell,
                f"{on}_dsc": round(metrics["test_dsc_mean"], 5),
                f"{on}_own_grid_dsc": round(metrics["test_own_grid_dsc_mean"], 5),
                f"{on}_iou": round(metrics["test_iou_mean"], 5),
                f"{on}_{hd95}": round(metrics["test_hd95_mean"], 4),
                "train_steps": metrics["train_steps"],
                "train_dsc": round(metrics["train_dsc"], 5),
                "train_seconds": round(metrics["train_seconds"], 1),
                "peak_memory_mib": round(metrics["peak_memory_mb"]),
            }
        )
        columns = [*of_cell, "subject", "class", "dsc", "own_grid_dsc", "iou", hd95]
        tables.append(scores.rename(columns={"hd95": hd95})[columns].round(4))
    if not rows:
        raise SystemExit("No cell of this environment's grid is finished: kedro run --env ENVIRONMENT makes them.")
    order = ["method", "n_train", "split", "seed"]
    return pd.DataFrame(rows).sort_values(order), pd.concat(tables).sort_values(order, kind="stable")


if __name__ == "__main__":
    main()
