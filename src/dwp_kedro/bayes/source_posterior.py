"""A Gaussian around a source network, as a prior of the target network's weights.

It knows where in weight space a good network lies, while a kernel prior knows only what kernels look like. Mean
and covariance are those of snapshots along a source training (SWAG, Maddox et al. 2019); as a prior of another
task, its covariance rescaled, it is the informative prior of Shwartz-Ziv et al. 2022 (*Pre-Train Your Loss*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import LOG_2PI, WeightPrior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError

# A weight's variance is at least this share of its layer's mean: one that snapshots found at rest, like that of a
# dead channel, would otherwise be held there by an unbounded precision.
VARIANCE_FLOOR = 0.01


class SourcePosterior(WeightPrior):
    """N(w; m, S) over all 3×3×3 kernels together, S = scale·(½·diag(v) + D·Dᵀ / (2(K − 1))).

    S is that of Maddox et al. 2019, Alg. 1, times ``scale``; v is floored, layer by layer, at
    :data:`VARIANCE_FLOOR` of its mean. With A = scale·½·diag(v), U = D·√(scale / (2(K − 1))) and the Cholesky
    factor L of I + Uᵀ·A⁻¹·U, the identity of Woodbury is S⁻¹ = A⁻¹ − Fᵀ·F with F = L⁻¹·Uᵀ·A⁻¹, and
    log det S = log det A + 2·log det L. All of it is computed once, in float64.

    Args:
        mean: m by name of the layer, (out, in, 3, 3, 3) each.
        variance: v by name of the layer, of the same shapes.
        deviations: Dᵀ by name of the layer, (K, out, in, 3, 3, 3) each.
        scale: of the covariance; 1 is SWAG's own.

    Raises:
        ValueError: if ``scale`` is not positive, there are fewer than two deviations, or a layer never moved.
    """

    mean: Tensor
    diagonal_precision: Tensor
    precision: Tensor
    factor: Tensor
    log_normaliser: Tensor

    def __init__(
        self,
        mean: dict[str, Tensor],
        variance: dict[str, Tensor],
        deviations: dict[str, Tensor],
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"source_scale must be positive, got {scale}")
        self.shapes = {layer: tensor.shape for layer, tensor in mean.items()}
        rank = min(len(tensor) for tensor in deviations.values())
        if rank < 2:
            raise ValueError(
                f"a source posterior needs at least 2 deviations, got {rank}: raise source_training.snapshots.rank"
            )
        at_rest = [layer for layer in mean if not variance[layer].any()]
        if at_rest:
            raise ValueError(
                f"the snapshots of the source posterior do not differ in {', '.join(at_rest)}: raise "
                "source_training.snapshots.learning_rate"
            )
        diagonal = 0.5 * scale * torch.cat([_floored(variance[layer].double()).flatten() for layer in mean])
        low_rank = torch.cat([deviations[layer].double().flatten(1) for layer in mean], 1)
        low_rank *= math.sqrt(scale / (2 * (rank - 1)))  # Uᵀ, (K, weights)
        capacitance = torch.eye(rank, dtype=torch.float64) + (low_rank / diagonal) @ low_rank.T
        cholesky = torch.linalg.cholesky(capacitance)
        factor = torch.linalg.solve_triangular(cholesky, low_rank / diagonal, upper=False)
        log_det = diagonal.log().sum() + 2 * cholesky.diagonal().log().sum()
        self.register_buffer("mean", torch.cat([mean[layer].float().flatten() for layer in mean]))
        self.register_buffer("diagonal_precision", (1 / diagonal).float())  # A⁻¹
        self.register_buffer("precision", (1 / diagonal - factor.square().sum(0)).float())  # diag(S⁻¹)
        self.register_buffer("factor", factor.float())
        self.register_buffer("log_normaliser", (len(diagonal) * LOG_2PI + log_det).float())

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, layers: Sequence[str], scale: float) -> SourcePosterior:
        """Take ``layers`` out of a checkpoint with ``mean/``, ``variance/``, ``deviations/`` of each parameter.

        Raises:
            CheckpointError: if the checkpoint lacks a layer; the message names them.
        """
        parts: dict[str, dict[str, Tensor]] = {"mean": {}, "variance": {}, "deviations": {}}
        names = {part: {layer: f"{part}/{layer}.weight" for layer in layers} for part in parts}
        missing = [name for part in names.values() for name in part.values() if name not in checkpoint.weights]
        if missing:
            raise CheckpointError(
                f"the source posterior lacks {', '.join(missing)}: it is of another network. Take one of the "
                "network that is trained here."
            )
        for part, tensors in parts.items():
            tensors |= {layer: checkpoint.weights[name] for layer, name in names[part].items()}
        return cls(**parts, scale=scale)

    def cross_entropy(self, posterior: BayesianNetwork, generator: torch.Generator) -> Tensor:
        """Return −E_q log N(w; m, S) in closed form: no noise is drawn.

        It is ½·[log det(2πS) + (μ − m)ᵀ·S⁻¹·(μ − m) + Σ diag(S⁻¹)·σ²], nats.
        """
        layers = [posterior.layer(name) for name in self.shapes]
        offset = torch.cat([layer.mean.flatten() for layer in layers]) - self.mean
        variance = torch.cat([layer.log_variance.flatten() for layer in layers]).exp()
        distance = self.diagonal_precision @ offset.square() - (self.factor @ offset).square().sum()
        return 0.5 * (self.log_normaliser + distance + self.precision @ variance)

    def require_fit(self, posterior: BayesianNetwork) -> None:
        """Refuse a posterior over other layers, or of other shapes."""
        theirs = {name: posterior.layer(name).mean.shape for group in posterior.groups for name in group.layers}
        problems = [
            f"{name}: source posterior {_words(self.shapes.get(name))}, network {_words(theirs.get(name))}"
            for name in sorted(self.shapes.keys() | theirs.keys())
            if self.shapes.get(name) != theirs.get(name)
        ]
        if problems:
            raise ValueError("the source posterior does not fit the network:\n  " + "\n  ".join(problems))


def _floored(variance: Tensor) -> Tensor:
    return variance.clamp_min(VARIANCE_FLOOR * variance.mean().item())


def _words(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else str(tuple(shape))
