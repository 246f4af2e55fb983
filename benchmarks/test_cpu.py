"""The goals on a CPU, batches of 2 × 64×64×32."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from contestants import RIVALS, bayesian, count_flops, plain, training_loop, training_step, unet
from literal_vae import literal_decode, literal_encode
from peak_memory import NAMES

from dwp_kedro.imaging.augmentation import Augmentation
from dwp_kedro.networks import KernelVAE
from dwp_kedro.parameters import AugmentationParameters
from dwp_kedro.training.precision import best_precision

N_KERNELS = 1332  # 5 % of the U-Net's
N_LARGEST_GROUP = 12288
VAE_GOAL = 4
STEP_GOALS = {"weight_samples": 1.3, "local_reparameterisation": 1.8}
BF16_GOAL = 1.0
LOOP_STEPS = 12  # whole epochs
_flops_over: dict[str, float] = {}
needs_bfloat16 = pytest.mark.skipif(
    best_precision(torch.device("cpu")) != "bf16-mixed",
    reason="this processor emulates bfloat16, and a matrix product takes minutes",
)
PRECISIONS = ["32-true", pytest.param("bf16-mixed", marks=needs_bfloat16)]


@pytest.mark.parametrize("type_name", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
def test_matrix_product_peak(benchmark, report, type_name):
    """What the machine can do at best."""
    side = 2048
    a, b = (torch.randn(side, side).to(getattr(torch, type_name)) for _ in range(2))
    benchmark.pedantic(lambda: a @ b, rounds=8, warmup_rounds=2)
    gflops = 2 * side**3 / benchmark.stats.stats.min / 1e9
    report.note(f"matrix product, {type_name}", f"{gflops:.0f} GFLOP/s on {torch.get_num_threads()} threads")


@pytest.mark.parametrize(
    ("goal", "n_kernels", "train_decoder", "rounds"),
    [
        ("vae_speedup", N_KERNELS, True, 10),
        ("vae_speedup_decoder_fixed", N_KERNELS, False, 10),
        ("vae_speedup_largest_group", N_LARGEST_GROUP, True, 3),
    ],
)
def test_kernel_vae(paired, report, goal, n_kernels, train_decoder, rounds):
    """Matrices against literal modules, forward and gradients: of kernels and encoder, and of the decoder or not.

    Its decoder is trained in prior learning and fixed in target training.
    """
    vae = KernelVAE()
    vae.decoder.requires_grad_(train_decoder)
    kernels, latent_noise = torch.randn(n_kernels, 27, requires_grad=True), torch.randn(n_kernels, 6)

    def evaluate(encode, decode) -> None:
        vae.zero_grad()
        kernels.grad = None
        mean, log_variance = encode(kernels)
        reconstruction = decode(mean + (0.5 * log_variance).exp() * latent_noise)
        sum(output.square().sum() for output in (mean, log_variance, *reconstruction)).backward()

    pairs = paired(
        lambda: evaluate(vae.encode, vae.decode),
        lambda: evaluate(lambda w: literal_encode(vae, w), lambda z: literal_decode(vae, z)),
        rounds,
    )
    trained = "decoder trained" if train_decoder else "decoder fixed"
    report.note(f"kernel VAE, {n_kernels} kernels, {trained}", f"{pairs} to literal modules")
    report.goal(goal, 1 / pairs.ratio, VAE_GOAL)


@pytest.mark.parametrize("estimator", ["weight_samples", "local_reparameterisation"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dwp_step(paired, report, estimator, precision):
    """A whole step under the deep weight prior against the plain step of the same precision."""
    pairs = paired(training_step(bayesian(estimator), precision), training_step(plain(unet()), precision))
    report.note(f"DWP step, {estimator}, {precision}", f"{pairs} to plain step")
    if precision == "32-true":
        report.goal(f"dwp_step_{estimator}", pairs.ratio, STEP_GOALS[estimator])


@pytest.mark.parametrize("augmented", [False, True])
def test_loop(paired, report, augmented):
    """The training loop, its batches made ready beside the steps, against as many bare steps on one batch."""
    transform = Augmentation(AugmentationParameters()) if augmented else None
    step = training_step(plain(unet()))
    pairs = paired(
        training_loop(plain(unet()), LOOP_STEPS, transform), lambda: [step() for _ in range(LOOP_STEPS)], 3
    )
    report.note(f"loop of {LOOP_STEPS} steps, {'' if augmented else 'not '}augmented", f"{pairs} to bare steps")


@needs_bfloat16
def test_bf16_step(paired, report):
    """The plain step under bf16 autocast against float32."""
    pairs = paired(training_step(plain(unet()), "bf16-mixed"), training_step(plain(unet())))
    report.note("plain step, bf16-mixed", f"{pairs} to 32-true")
    report.goal("bf16_over_float32", pairs.ratio, BF16_GOAL)


@pytest.mark.parametrize("rival", RIVALS)
def test_flops_per_second(paired, report, rival):
    """FLOP/s achieved in a training step, ours over each rival's; the worst of them is the goal's."""
    ours, theirs = training_step(plain(unet())), training_step(plain(RIVALS[rival]()))
    our_flops, their_flops = count_flops(ours), count_flops(theirs)
    pairs = paired(theirs, ours)
    _flops_over[rival] = pairs.ratio * our_flops / their_flops
    speeds = (their_flops / min(pairs.seconds) / 1e9, our_flops / min(pairs.reference) / 1e9)
    report.note(
        f"{rival}, {their_flops / 1e9:.1f} GFLOP a step",
        f"{pairs} to UNet3D, {our_flops / 1e9:.1f} GFLOP; at best {speeds[0]:.0f} GFLOP/s, UNet3D {speeds[1]:.0f}",
    )
    if len(_flops_over) == len(RIVALS):
        report.goal("unet_flops_over_best_monai", min(_flops_over.values()), 1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_peak_memory(report, precision):
    """Of each contestant, in a process of its own."""
    script = Path(__file__).with_name("peak_memory.py")
    used = {
        name: subprocess.run(
            [sys.executable, script, name, precision], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in NAMES
    }
    report.note(f"memory of a step, {precision}", ", ".join(f"{name} {mib} MiB" for name, mib in used.items()))
