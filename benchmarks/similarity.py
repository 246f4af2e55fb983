"""How far source networks' kernels have turned away from those they began with, group by group.

    python benchmarks/similarity.py data/06_models/hippocampus_to_lgg/source_training/network_*.safetensors

A cosine of 1: not at all, and a prior learnt from them knows their initial distribution.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.training.source import SOURCE_START, new_network


def main() -> None:
    """Print a line per checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="files of source networks")
    for path in parser.parse_args().checkpoints:
        checkpoint = CheckpointDataset(filepath=path.as_posix()).load()
        network = checkpoint.metadata["arguments"]
        n_channels, channels = network["in_channels"], tuple(network["channels"])
        start = new_network(
            n_channels, network["out_channels"], channels, checkpoint.metadata["seed"], SOURCE_START
        )
        before = dict(start.named_parameters())
        cosines = []
        for group in kernel_groups(start, n_channels):
            names = [f"{layer}.weight" for layer in group.layers]
            now, then = (
                torch.cat([w[name].detach().flatten() for name in names]) for w in (checkpoint.weights, before)
            )
            cosines.append(f"{torch.cosine_similarity(now, then, dim=0):.2f}")
        print(path.stem, *cosines)


if __name__ == "__main__":
    main()
