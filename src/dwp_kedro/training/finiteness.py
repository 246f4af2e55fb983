"""What a training says when its numbers are no longer finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_NAMED = 3  # parameters in a message; the others are counted


class TrainingError(RuntimeError):
    """A training cannot go on; the message says where and why, and what to do."""


def broken_terms(terms: Mapping[str, float]) -> str | None:
    """Say which terms of an objective are not finite; None if all are.

    >>> broken_terms({"loss": math.inf, "data_term": 0.5, "kl": math.inf})
    'kl and so loss not finite (loss inf, data_term 0.5, kl inf)'
    """
    broken = [name for name, value in terms.items() if not math.isfinite(value)]
    if not broken:
        return None
    parts = [name for name in broken if name != "loss"]
    named = ", ".join(parts) + (" and so loss" if "loss" in broken else "") if parts else "loss"
    return f"{named} not finite ({_listed(terms)})"


def broken_gradient(norm: float, parameters: Mapping[str, Tensor], terms: Mapping[str, float]) -> str | None:
    """Say which gradients are not finite; None if ``norm``, that of all of them together, is finite.

    Args:
        norm: Euclidean, of the whole gradient.
        parameters: by name, with their gradients, which are looked at only if the norm is not finite.
        terms: of the objective, which were finite.
    """
    if math.isfinite(norm):
        return None
    broken = [name for name, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
    what = f"gradient of {_named(broken)} not finite" if broken else "norm of the gradient too large for float32"
    return f"{what} ({_listed(terms)})"


def broken_weights(module: nn.Module) -> str | None:
    """Say which weights are not finite; None if all are."""
    broken = [name for name, tensor in module.state_dict().items() if not tensor.isfinite().all()]
    return f"weights of {_named(broken)} not finite" if broken else None


def is_finite(batch: Iterable[Tensor]) -> bool:
    """Tell whether all values of a batch are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in batch)


def _listed(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
