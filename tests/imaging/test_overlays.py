from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dwp_kedro.imaging.overlays import COLOURS, contact_sheet, contour_slices, middle_slices
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


def test_contours_on_the_slice_where_truth_is_largest() -> None:
    image = np.random.default_rng(0).random((32, 32, 12))
    truth = np.zeros_like(image, dtype=np.uint8)
    truth[4:8, 4:8, 2] = 1
    truth[4:20, 4:12, 7] = 1
    dwp = np.roll(truth, 8, axis=1)
    figure = contour_slices(image, {"dwp": dwp, "ri": 0 * truth, "truth": truth}, title="s01,")
    assert np.array_equal(shown(figure, 1), image[:, :, 7].T[:, ::-1])
    assert figure.get_suptitle() == "s01, slice 7"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["truth", "dwp", "ri (nothing on this slice)"]
    outlines = figure.axes[1].collections
    assert len(outlines) == 2
    # Columns run from right to left: x 4…19 of 32 becomes 12…27, outlined half a voxel outside.
    box = outlines[0].get_paths()[0].get_extents()
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((11.5, 27.5, 3.5, 11.5))
    pixels = render(figure).reshape(-1, 3)
    for colour in COLOURS[:2]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.any(np.all(pixels == rgb, axis=1))


def test_contact_sheet_has_one_panel_per_subject() -> None:
    image = np.random.default_rng(0).random((16, 16, 8))
    label = np.zeros((16, 16, 8), dtype=np.uint8)
    label[3:9, 3:9, 5] = 1
    subject = Volume.from_array(image, np.eye(4)), Volume.from_array(label, np.eye(4))
    empty = Volume.from_array(image, np.eye(4)), Volume.from_array(0 * label, np.eye(4))
    figure = contact_sheet({"s01": subject, "s02": subject, "s03": empty}, columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["s01", "s02", "s03", ""]
    assert not any(axes.axison for axes in figure.axes)
    assert np.array_equal(shown(figure, 0), image[:, :, 5].T[:, ::-1])
    assert [len(axes.collections) for axes in figure.axes] == [1, 1, 0, 0]
