"""Print the peak memory of training and prediction by size: ``python benchmarks/memory.py 64,64,64 96,96,96``.

Each number comes from a process of its own: what its peak is above what it held before, MiB, and divided by the
voxels. On a machine with a GPU both are measured there. Sizes are x,y,z in voxels.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from math import prod

SIZES = ("48,48,48", "64,64,64", "96,96,96", "128,128,128")
RUNS = (
    "train plain",
    "train weight_samples",
    "train local_reparameterisation",
    "predict UNet3D",
    "predict UNet3D/2",
    "predict UNet3D*2",
    "predict DynUNet",
)
PRECISIONS = ("32-true", "bf16-mixed")


def main(sizes: tuple[str, ...]) -> None:
    """Measure everything at every size; torch is not imported here, whose memory a child's peak would start at."""
    print(f"{'':32}{'precision':12}" + "".join(f"{size.replace(',', '×'):>22}" for size in sizes))
    for run in RUNS:
        for precision in PRECISIONS:
            cells = []
            for size in sizes:
                command = [sys.executable, __file__, "measure", *run.split(), precision, size]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    cells.append("out of memory" if "emory" in done.stderr or done.returncode < 0 else "failed")
                    continue
                mib = float(done.stdout.split()[-1])
                cells.append(f"{mib:.0f} MiB {mib * 2**20 / prod(map(int, size.split(','))):.0f} B")
            print(f"{run:32}{precision:12}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


def measure(kind: str, name: str, precision: str, size: str) -> None:
    """Print the MiB that one training step on two volumes, or the prediction of one, takes at its peak."""
    import torch
    from contestants import bayesian, plain, training_step, unet

    from dwp_kedro.networks import UNet3D
    from dwp_kedro.pipelines.architectures import DynUNet
    from dwp_kedro.training.prediction import predict
    from dwp_kedro.training.settings import Compute

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y, z = (int(side) for side in size.split(","))

    def run(grid: tuple[int, int, int]) -> None:
        if kind == "train":
            training_step(plain(unet()) if name == "plain" else bayesian(name), precision, device, grid)()  # type: ignore[arg-type]
            return
        networks = {
            "UNet3D": lambda: UNet3D(),
            "UNet3D/2": lambda: UNet3D(channels=(8, 16, 16, 32)),
            "UNet3D*2": lambda: UNet3D(channels=(32, 64, 64, 128)),
            "DynUNet": lambda: DynUNet(),
        }
        volume = torch.zeros(1, *grid)
        [_] = predict(
            [networks[name]()],
            lambda _: volume,
            1,
            task="predict",
            compute=Compute(device, precision),  # type: ignore[arg-type]
        )

    run((24, 24, 24))  # libraries are loaded, threads started
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run((x, y, z))
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    before = _peak()
    run((x, y, z))
    print(_peak() - before)


def _peak() -> float:
    """Peak of the process so far, MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main(tuple(sys.argv[1:]) or SIZES)
