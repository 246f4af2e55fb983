"""How far the σ of a posterior's weights have spread from the one value that each group's start with.

    python benchmarks/spread.py data/06_models/lgg_to_hippocampus/target_evaluation/dwp_mix/*.safetensors

Prints, per checkpoint, the smallest and the largest σ over the median of its layer, and how many are within 1 % of
it. 1, 1 and 100 %: σ has at most shifted as a whole, which the curve ``log_variance`` tells.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dwp_kedro.datasets import CheckpointDataset


def main() -> None:
    """Print a line per checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="files of cells of a method with a prior")
    for path in parser.parse_args().checkpoints:
        weights = CheckpointDataset(filepath=path.as_posix()).load().weights
        layers = [tensor.flatten() for name, tensor in weights.items() if name.endswith("log_variance")]
        if not layers:
            print(path.stem, "has no posterior")
            continue
        ratio = torch.cat([(0.5 * (layer - layer.median())).exp() for layer in layers])
        near = (ratio.log().abs() < 0.01).float().mean()
        print(f"{path.stem} {ratio.min():.3f} {ratio.max():.3f} {near:.1%}")


if __name__ == "__main__":
    main()
