from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dwp_kedro.imaging.overlays import contact_sheet, largest_slice, middle_slices, outline
from dwp_kedro.imaging.volume import Volume


def shown(figure: Figure, panel: int) -> np.ndarray:
    """Pixels handed to a panel, row 0 at the bottom."""
    return np.asarray(figure.axes[panel].images[0].get_array())


def render(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.fixture
def scan() -> np.ndarray:
    """Canonical array (X, Y, Z) whose voxels all differ."""
    return np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8)


def test_middle_slices_in_true_proportions(scan: np.ndarray) -> None:
    figure = middle_slices(Volume.from_array(scan, np.diag([1.0, 2.0, 5.0, 1.0])))
    assert [axes.get_title() for axes in figure.axes] == ["sagittal", "coronal", "axial"]
    assert [axes.get_aspect() for axes in figure.axes] == pytest.approx([5 / 2, 5 / 1, 2 / 1])
    assert np.array_equal(shown(figure, 0), scan[2].T)
    assert np.array_equal(shown(figure, 1), scan[:, 3].T[:, ::-1])
    assert np.array_equal(shown(figure, 2), scan[:, :, 4].T[:, ::-1])


def test_a_scan_looks_the_same_in_any_storage_order(scan: np.ndarray) -> None:
    canonical = Volume.from_array(scan, np.diag([1.0, 2.0, 5.0, 1.0]))
    # Stored as (S, L, P): the same anatomy, axes permuted and flipped.
    affine = np.array([[0.0, -1, 0, 3], [0, 0, -2, 10], [5, 0, 0, 0], [0, 0, 0, 1]])
    stored = Volume.from_array(scan[::-1, ::-1].transpose(2, 0, 1), affine)
    assert stored.orientation == "SLP"
    for panel in range(3):
        first, second = middle_slices(canonical), middle_slices(stored)
        assert np.array_equal(shown(first, panel), shown(second, panel))
        assert first.axes[panel].get_aspect() == pytest.approx(second.axes[panel].get_aspect())


def test_first_channel_of_a_4d_volume(scan: np.ndarray) -> None:
    volume = Volume.from_array(np.stack([scan, -scan], axis=-1), np.eye(4))
    assert np.array_equal(shown(middle_slices(volume), 0), scan[2].T)


def test_a_constant_volume_can_be_shown() -> None:
    assert render(middle_slices(Volume.from_array(np.zeros((4, 4, 4)), np.eye(4)))).size > 0


def test_outlines_run_around_every_class_half_a_voxel_outside() -> None:
    label = np.zeros((32, 32), dtype=np.uint8)
    label[4:12, 12:28] = 1
    label[20:24, 0:4] = 2
    axes = Figure().subplots()
    outline(axes, label, "red")
    boxes = [collection.get_paths()[0].get_extents() for collection in axes.collections]
    assert (boxes[0].x0, boxes[0].x1, boxes[0].y0, boxes[0].y1) == pytest.approx((11.5, 27.5, 3.5, 11.5))
    assert (boxes[1].x0, boxes[1].x1) == pytest.approx((-0.5, 3.5))


def test_largest_slice_of_an_empty_label_is_the_middle_one() -> None:
    label = np.zeros((4, 4, 9))
    assert largest_slice(label) == 4
    label[1, 1, 7] = 1
    assert largest_slice(label) == 7


def test_contact_sheet_has_one_panel_per_subject() -> None:
    image = np.random.default_rng(0).random((16, 16, 8))
    label = np.zeros((16, 16, 8), dtype=np.uint8)
    label[3:9, 3:9, 5] = 1
    scan, mask, empty = (Volume.from_array(array, np.eye(4)) for array in (image, label, 0 * label))
    subjects = [("s01", scan, mask), ("s02", scan, mask), ("s03", scan, empty)]
    figure = contact_sheet(iter(subjects), 3, columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["s01", "s02", "s03", ""]
    assert np.array_equal(shown(figure, 0), image[:, :, 5].T[:, ::-1])
    assert [len(axes.collections) for axes in figure.axes] == [1, 1, 0, 0]
