"""The finished cells of an environment's grid as tables, a row per cell and a row per subject: docs/results/*.csv.

    python benchmarks/cells.py hippocampus_to_lgg cells.csv --subjects subjects.csv
    python benchmarks/cells.py hippocampus_to_lgg cells.csv --against pr

The second one also prints every method's means, with standard deviations over draws, and its uncertainty, and how
``pr`` differs from each. A grid that is run in pieces has its reports only at the end; this takes what there is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from dwp_kedro.evaluation.paired_comparison import compare_methods
from dwp_kedro.evaluation.summary import mean_and_sd
from dwp_kedro.evaluation.uncertainty import SUMMARISED, summarise_uncertainty
from dwp_kedro.parameters import GridParameters
from dwp_kedro.pipelines.target_evaluation.pipeline import grid_cells

PROJECT = Path(__file__).parents[1]
UNITS = {"voxel": "voxels", "mm": "mm"}
OF_CELL = ["method", "n_train", "split", "seed"]


def main() -> None:
    """Write the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment")
    parser.add_argument("cells", type=Path, help="CSV file to write, a row per cell")
    parser.add_argument("--subjects", type=Path, help="CSV file to write, a row per cell and subject")
    parser.add_argument("--against", metavar="METHOD", help="a method of the grid to compare the others with")
    arguments = parser.parse_args()
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=arguments.environment) as session:
        context = session.load_context()
        grid = GridParameters.model_validate(context.params["grid"])
        if arguments.against not in (None, *grid.methods):
            parser.error(f"--against: one of {', '.join(grid.methods)}, not {arguments.against}")
        cells, subjects, uncertainty = finished_cells(context.catalog, grid)
    cells.to_csv(arguments.cells, index=False)
    if arguments.subjects is not None:
        subjects.to_csv(arguments.subjects, index=False)
    if arguments.against is not None:
        tables = {
            metric: mean_and_sd(subjects, metric) for metric in ["dsc", "iou", *subjects.filter(like="hd95")]
        }
        tables["uncertainty"] = summarise_uncertainty(uncertainty)
        tables["difference of dsc"] = compare_methods(subjects, arguments.against)
        for name, table in tables.items():
            print(f"{name}:", table.round(4).to_string(index=False), sep="\n", end="\n\n")
    print(f"{len(cells)} finished cells")


def finished_cells(
    catalog: CatalogProtocol, grid: GridParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the table of cells, with means over subjects and classes, that of subjects, and their uncertainty.

    Scores are called after the subjects they are of, test or set_aside. DSC and IoU are shares, seconds those of
    training, memory the peak of the process; hd95 is in the unit named.

    Raises:
        SystemExit: No cell of the grid is finished.
    """
    rows: list[dict[str, Any]] = []
    tables, uncertainties = [], []
    on = grid.scored_on
    for cell in grid_cells(grid):
        entry = f"target_evaluation.{cell.name}"
        if not all(catalog.exists(f"{entry}.{table}") for table in ("metrics", "scores", "uncertainty")):
            continue
        metrics, scores = catalog.load(f"{entry}.metrics"), catalog.load(f"{entry}.scores")
        uncertainty = catalog.load(f"{entry}.uncertainty")
        certainty = summarise_uncertainty(uncertainty)[SUMMARISED].iloc[0]
        hd95 = f"hd95_{UNITS[scores['distance_unit'].iat[0]]}"
        rows.append(
            {
                **{name: getattr(cell, name) for name in OF_CELL},
                f"{on}_dsc": round(metrics["test_dsc_mean"], 5),
                f"{on}_own_grid_dsc": round(metrics["test_own_grid_dsc_mean"], 5),
                f"{on}_iou": round(metrics["test_iou_mean"], 5),
                f"{on}_{hd95}": round(metrics["test_hd95_mean"], 4),
                **certainty.round(5),
                "train_steps": metrics["train_steps"],
                "train_dsc": round(metrics["train_dsc"], 5),
                "train_seconds": round(metrics["train_seconds"], 1),
                "peak_memory_mib": round(metrics["peak_memory_mb"]),
            }
        )
        columns = [*OF_CELL, "subject", "class", "dsc", "own_grid_dsc", "iou", hd95]
        tables.append(scores.rename(columns={"hd95": hd95})[columns].round(4))
        uncertainties.append(uncertainty)
    if not rows:
        raise SystemExit("No cell of this environment's grid is finished: kedro run --env ENVIRONMENT makes them.")
    subjects = pd.concat(tables).sort_values(OF_CELL, kind="stable")
    return pd.DataFrame(rows).sort_values(OF_CELL), subjects, pd.concat(uncertainties)


if __name__ == "__main__":
    main()
