from __future__ import annotations

import io

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dwp_kedro.imaging.lesion_picture import lesion_picture
from dwp_kedro.imaging.volume import Volume

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])


def draw(mask: np.ndarray, names: tuple[str, ...] = ("tumour",)) -> Figure:
    """Of a scan whose voxels hold their canonical indices: 10000 x + 100 y + z."""
    x, y, z = np.indices(mask.shape)
    array = 10000.0 * (mask.shape[0] - 1 - x) + 100 * (mask.shape[1] - 1 - y) + z
    return lesion_picture(Volume.from_array(array, LPS), Volume.from_array(mask, LPS), names, "patient_1")


def pictures(mask: np.ndarray) -> list[np.ndarray]:
    """The pixels of the three planes."""
    return [np.asarray(axes.images[0].get_array()) for axes in draw(mask).axes]


def test_all_planes_go_through_the_largest_lesion():
    mask = np.zeros((20, 24, 16), dtype=np.uint8)
    mask[2:5, 3:6, 7:10] = 1
    mask[3, 4, 7:10] = 1
    mask[15, 15:23, 2] = 1
    sagittal, coronal, axial = pictures(mask)
    # Of several slices with as many voxels, the first in canonical order.
    assert set(np.unique(sagittal // 10000)) == {20 - 1 - 4}
    assert set(np.unique(coronal % 10000 // 100)) == {24 - 1 - 5}
    assert set(np.unique(axial % 100)) == {7}


def test_an_empty_mask_shows_the_middle():
    sagittal, coronal, axial = pictures(np.zeros((20, 24, 16), dtype=np.uint8))
    assert set(np.unique(sagittal // 10000)) == {10}
    assert set(np.unique(coronal % 10000 // 100)) == {12}
    assert set(np.unique(axial % 100)) == {8}


def test_every_class_has_its_colour_and_its_name_in_the_legend():
    mask = np.zeros((20, 24, 16), dtype=np.uint8)
    mask[2:12, 3:13, 4:12] = 1
    mask[5:8, 6:9, 6:9] = 3
    # In each plane, the slice with the most of it goes through the core.
    mask[6, 13, 4:12] = mask[12, 7, 4:12] = mask[12, 3:13, 7] = 1
    figure = draw(mask, ("rim", "oedema", "core"))
    [legend] = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["rim", "oedema: none found", "core"]
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == 3
    for axes in figure.axes:
        tint = np.asarray(axes.images[1].get_array())
        assert {to_hex(pixel).upper() for pixel in tint[tint[..., 3] > 0]} == {colours[0], colours[2]}
        rim, core = axes.collections
        assert [to_hex(c.get_edgecolor()[0]).upper() for c in (rim, core)] == [colours[0], colours[2]]
        inner, outer = core.get_paths()[0].get_extents(), rim.get_paths()[0].get_extents()
        assert outer.x0 < inner.x0 < inner.x1 < outer.x1


def test_the_title_names_the_scan_whatever_signs_are_in_it():
    empty = Volume.from_array(np.zeros((16, 16, 16), np.uint8), LPS)
    figure = lesion_picture(empty, empty, ["a$b$_{"], r"p$\nothing$ 1")
    figure.savefig(io.BytesIO(), format="png")
    assert figure.get_suptitle() == r"p$\nothing$ 1 (nothing found, middle slices)"
    assert [axes.get_title() for axes in figure.axes] == ["sagittal", "coronal", "axial"]
