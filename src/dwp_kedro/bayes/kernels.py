"""3×3×3 kernels of trained networks, with where each came from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class KernelTensor:
    """Kernels of one group, a row each.

    ``kernels`` (n, 3, 3, 3) float32; ``network`` and ``layer`` (n names each); ``output_channel`` and
    ``input_channel`` (n,) int64.
    """

    kernels: Tensor
    network: list[str]
    layer: list[str]
    output_channel: Tensor
    input_channel: Tensor

    def __post_init__(self) -> None:
        n = len(self.kernels)
        if self.kernels.shape[1:] != (3, 3, 3):
            raise ValueError(f"kernels must be (n, 3, 3, 3), got {tuple(self.kernels.shape)}")
        lengths = {len(self.network), len(self.layer), len(self.output_channel), len(self.input_channel)}
        if lengths != {n}:
            raise ValueError(f"{n} kernels need {n} rows of provenance, got {sorted(lengths)}")
