"""What is timed: training steps, from the batch to the optimiser, without the loop's bookkeeping; and the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from monai.networks import nets
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.priors import DeepWeightPrior, KernelwisePrior
from dwp_kedro.networks import KernelVAE, UNet3D
from dwp_kedro.networks.unet import initialise_he
from dwp_kedro.training.loop import train
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.segmentation import SegmentationObjective
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.target import Method, PosteriorSettings, make_objective
from dwp_kedro.training.transform import Transform

BATCH = 2
GRID = (64, 64, 32)
PAPER_GRID = (152, 184, 144)
DICE_WEIGHT = 0.99
_SCALE = 0.05  # of the kernels under each prior
_N_VOLUMES = 5

RIVALS: dict[str, Callable[[], nn.Module]] = {
    "BasicUNet": lambda: nets.BasicUNet(features=(12, 12, 24, 48, 72, 12)),
    "DynUNet": lambda: nets.DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=(3, 3, 3, 3),
        strides=(1, 2, 2, 2),
        upsample_kernel_size=(2, 2, 2),
        filters=(16, 24, 40, 64),
    ),
    "SegResNet": lambda: nets.SegResNet(init_filters=10, blocks_down=(1, 2, 2, 2), norm="instance"),
}


def unet() -> UNet3D:
    """Return the paper's U-Net."""
    network = UNet3D()
    initialise_he(network, torch.Generator().manual_seed(0))
    return network


def plain(network: nn.Module) -> Objective:
    """Return the objective of a network without a prior."""
    return SegmentationObjective(network, DICE_WEIGHT)


def bayesian(estimator: Literal["weight_samples", "local_reparameterisation"]) -> Objective:
    """Return the objective of the U-Net's posterior under seven deep weight priors, with default settings."""
    network = unet()
    groups = kernel_groups(network, network.in_channels)
    settings = PosteriorSettings(estimator=estimator)
    priors = {group.name: DeepWeightPrior(KernelVAE(), _SCALE) for group in groups}
    objective, _ = make_objective(
        network,
        groups,
        Method(("deep_weight_prior",)),
        KernelwisePrior(priors, settings.kernel_fraction),
        {group.name: _SCALE for group in groups},
        settings,
        DICE_WEIGHT,
        _N_VOLUMES,
    )
    return objective


def training_step(
    objective: Objective,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    device: str = "cpu",
    grid: tuple[int, int, int] = GRID,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[], None]:
    """Return a function that takes one whole step on a batch of 2 volumes, and waits until it is done."""
    torch.manual_seed(0)
    images = torch.randn(BATCH, 1, *grid).to(device).to(memory_format=memory_format)
    labels = (torch.rand(BATCH, *grid) > 0.9).long().to(device)
    objective.to(device)
    if memory_format is not torch.contiguous_format:
        objective.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad])
    noise = torch.Generator(device).manual_seed(0)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            terms = objective(images, labels, step=0, generator=noise)
        for value in terms.values():
            value.item()
        terms["loss"].backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def training_loop(objective: Objective, steps: int, transform: Transform | None) -> Callable[[], None]:
    """Return a function that trains for so many steps on 6 volumes, in float32 on the CPU, from the set-up on."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3 * BATCH, 1, *GRID, generator=generator)
    labels = (torch.rand(3 * BATCH, *GRID, generator=generator) > 0.9).long()
    schedule = Schedule(kind="constant", learning_rate=1e-3, max_steps=steps)
    compute = Compute(device="cpu", precision="32-true")

    def loop() -> None:
        train(
            objective,
            (images, labels),
            task="benchmark",
            batch_size=BATCH,
            schedule=schedule,
            seed=0,
            compute=compute,
            transform=transform,
        )

    return loop


def count_flops(step: Callable[[], None]) -> int:
    """Return a step's floating-point operations in convolutions and matrix products, by PyTorch's counter."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()
