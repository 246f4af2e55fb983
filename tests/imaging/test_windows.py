from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dwp_kedro.imaging.windows import SlidingWindow, WholeVolume
from dwp_kedro.networks.unet import UNet3D, initialise_he

CPU = torch.device("cpu")


def of_size(size: tuple[int, int, int]) -> SlidingWindow:
    return SlidingWindow(lambda _: size)


class Recording(nn.Module):
    """Passes its input on as logits, and remembers the shapes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape[2:]))
        return torch.cat([x, 2 * x], 1)


def network() -> UNet3D:
    unet = UNet3D(channels=(2, 3, 3, 4))
    initialise_he(unet, torch.Generator().manual_seed(0))
    return unet


def volume(*shape: int) -> Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_one_window_that_covers_the_volume_is_the_whole_volume_bit_for_bit():
    unet, x = network(), volume(24, 32, 16)
    expected = unet(x)
    assert torch.equal(WholeVolume()(unet, x, CPU), expected)
    assert torch.equal(of_size((24, 32, 16))(unet, x, CPU), expected)


@torch.no_grad()
def test_a_smaller_volume_is_padded_like_a_patch_and_cut_out_again():
    unet, x = network(), volume(18, 32, 9)
    padded = torch.zeros(1, 1, 24, 32, 16)
    padded[..., 3:21, :, 3:12] = x
    expected = unet(padded)[..., 3:21, :, 3:12]
    assert torch.equal(of_size((24, 32, 16))(unet, x, CPU), expected)
    assert torch.equal(WholeVolume()(unet, x, CPU), expected), "the next multiples of 8"


@pytest.mark.parametrize("shape", [(40, 24, 33), (16, 50, 16), (9, 40, 40)])
def test_windows_cover_all_voxels_and_average_what_they_say(shape):
    seer, x = Recording(), volume(*shape)
    logits = of_size((16, 16, 16))(seer, x, CPU)
    assert set(seer.seen) == {(16, 16, 16)}
    # Every window says the same of a voxel, so that any weights give it back.
    torch.testing.assert_close(logits, torch.cat([x, 2 * x], 1))


def test_windows_overlap_by_half_and_weigh_the_middle_most():
    class Edge(nn.Module):
        """1 in a window's outer voxels along x, 0 in its middle half."""

        def forward(self, x: Tensor) -> Tensor:
            logits = torch.zeros_like(x)
            logits[..., :4, :, :] = logits[..., 12:, :, :] = 1
            return logits

    # Windows begin at 0, 8 and 16: a voxel in the middle of one lies at the edge of another.
    line = of_size((16, 16, 16))(Edge(), volume(32, 16, 16), CPU)[0, 0, :, 8, 8]
    assert (line[:4] == 1).all()
    assert (line[6:26] < 0.5).all()
    assert line[8:24].max() > 0.01, "more than one window spoke"


def test_the_size_is_asked_for_by_device():
    asked: list[torch.device] = []

    def size(device: torch.device) -> tuple[int, int, int]:
        asked.append(device)
        return (32, 24, 16)

    seer = Recording()
    SlidingWindow(size)(seer, volume(33, 24, 16), CPU)
    assert set(seer.seen) == {(32, 24, 16)}
    assert asked == [CPU]


def test_logits_of_windows_are_averaged_in_float32():
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.bfloat16()

    assert of_size((16, 16, 16))(Half(), volume(40, 16, 16), CPU).dtype == torch.float32
