"""The goals on a GPU, batches of 2 × 152×184×144; what memory formats, compilation and CUDA graphs give there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from contestants import PAPER_GRID, RIVALS, bayesian, count_flops, plain, training_step, unet

from dwp_kedro.training.objective import Objective

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STEP_GOALS = {"weight_samples": 1.15, "local_reparameterisation": 2.1}
COMPILED = {"torch.compile": "default", "torch.compile with CUDA graphs": "reduce-overhead"}
_flops_over: dict[str, float] = {}


@pytest.fixture(autouse=True)
def _room() -> Iterator[None]:
    """Give the last benchmark's memory back."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        torch.compiler.reset()


def _step(objective: Objective, precision: str, memory_format: torch.memory_format) -> Callable[[], None]:
    return training_step(objective, precision, "cuda", PAPER_GRID, memory_format)  # type: ignore[arg-type]


def _peak() -> str:
    return f"; peak of both {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB"


@pytest.mark.parametrize("type_name", ["float32", "bfloat16"])
def test_matrix_product_peak(benchmark, report, type_name):
    """What the GPU can do at best."""
    side = 8192
    a, b = (torch.randn(side, side, device="cuda").to(getattr(torch, type_name)) for _ in range(2))

    def multiply() -> None:
        a @ b
        torch.cuda.synchronize()

    benchmark.pedantic(multiply, rounds=10, warmup_rounds=3)
    report.note(
        f"matrix product, GPU, {type_name}", f"{2 * side**3 / benchmark.stats.stats.min / 1e12:.1f} TFLOP/s"
    )


@pytest.mark.parametrize("variant", ["bf16-mixed", "channels_last_3d", *COMPILED])
def test_plain_step(paired, report, variant):
    """Variants of the plain step against the one that trains now."""
    precision = "bf16-mixed" if variant == "bf16-mixed" else "32-true"
    network = torch.compile(unet(), mode=COMPILED[variant]) if variant in COMPILED else unet()
    memory_format = torch.channels_last_3d if variant == "channels_last_3d" else torch.contiguous_format
    reference = _step(plain(unet()), "32-true", torch.contiguous_format)
    pairs = paired(_step(plain(network), precision, memory_format), reference)
    report.note(f"plain step, GPU, {variant}", f"{pairs} to eager 32-true{_peak()}")


@pytest.mark.parametrize("estimator", ["weight_samples", "local_reparameterisation"])
def test_dwp_step(paired, report, estimator):
    """A whole step under the deep weight prior against the plain step."""
    steps = (_step(o, "32-true", torch.contiguous_format) for o in (bayesian(estimator), plain(unet())))
    pairs = paired(*steps)
    report.note(f"DWP step, GPU, {estimator}", f"{pairs} to plain step{_peak()}")
    report.goal(f"dwp_step_{estimator}_gpu", pairs.ratio, STEP_GOALS[estimator])


@pytest.mark.parametrize("rival", RIVALS)
def test_flops_per_second(paired, report, rival):
    """FLOP/s achieved in a training step, ours over each rival's; the worst of them is the goal's."""
    ours, theirs = (_step(plain(n), "32-true", torch.contiguous_format) for n in (unet(), RIVALS[rival]()))
    flops = count_flops(ours) / count_flops(theirs)
    pairs = paired(theirs, ours)
    _flops_over[rival] = pairs.ratio * flops
    report.note(f"{rival}, GPU", f"{pairs} to UNet3D{_peak()}")
    if len(_flops_over) == len(RIVALS):
        report.goal("unet_flops_over_best_monai_gpu", min(_flops_over.values()), 1)
