"""Settings of a training, as plain values: the core does not know where they were read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Compute:
    """Where a training runs and where it keeps its unfinished state."""

    device: str = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"
    state_folder: Path | None = None
    state_every_seconds: float = 60.0


@dataclass(frozen=True)
class Schedule:
    """Learning rate and length; the plateau schedule's defaults are the paper's Table 1.

    ``cosine`` and ``constant`` take exactly ``max_steps``.
    """

    kind: Literal["plateau", "cosine", "constant"] = "plateau"
    learning_rate: float = 1e-3
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    min_learning_rate: float = 1e-6
    max_epochs: int = 500
    max_steps: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SnapshotSettings:
    """Snapshots along a training at a constant learning rate.

    ``n_snapshots`` of them, ``every_steps`` apart; the last ``rank`` make the low-rank part of the covariance.
    """

    learning_rate: float
    n_snapshots: int
    every_steps: int
    rank: int

    @property
    def schedule(self) -> Schedule:
        """The schedule of a training that ends with the last snapshot."""
        return Schedule(
            kind="constant", learning_rate=self.learning_rate, max_steps=self.n_snapshots * self.every_steps
        )
