"""Print the MiB that a contestant's first training step adds to its process: ``peak_memory.py NAME PRECISION``."""

from __future__ import annotations

import sys
import threading
from typing import Literal

import psutil
from contestants import RIVALS, bayesian, plain, training_step, unet

from dwp_kedro.training.objective import Objective

NAMES = ("UNet3D", "weight_samples", "local_reparameterisation", *RIVALS)


def main(name: str, precision: Literal["32-true", "bf16-mixed"]) -> None:
    """Take the step and print."""
    objective: Objective
    if name == "UNet3D":
        objective = plain(unet())
    elif name in ("weight_samples", "local_reparameterisation"):
        objective = bayesian(name)  # type: ignore[arg-type]
    else:
        objective = plain(RIVALS[name]())
    step = training_step(objective, precision)
    # Sampled, because the kernel's own maximum starts at that of the process which started this one.
    process, done = psutil.Process(), threading.Event()
    samples = [process.memory_info().rss]

    def sample() -> None:
        while not done.wait(0.002):
            samples.append(process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    step()
    done.set()
    sampler.join()
    print((max(samples) - samples[0]) // 2**20)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])  # type: ignore[arg-type]
