from __future__ import annotations

import io

import numpy as np

from dwp_kedro.evaluation.latent_figures import latent_grid, latent_sliders

VALUES = [-2.0, 0.0, 2.0]
NAMES = ["first", "second"]
TRAVERSALS = np.arange(2 * 3 * 27, dtype=np.float32).reshape(2, 3, 3, 3, 3)


def slices_of(rows: list[list[float | None]]) -> np.ndarray:
    """Undo the layout: (3, 11) with gaps to (3, 3, 3)."""
    array = np.array([[np.nan if weight is None else weight for weight in row] for row in rows])
    assert np.isnan(array[:, [3, 7]]).all()
    return np.stack([array[:, start : start + 3] for start in (0, 4, 8)])


def test_every_step_of_a_slider_shows_its_kernel():
    figure = latent_sliders(TRAVERSALS, VALUES, NAMES, "a group")
    assert np.array_equal(slices_of(figure.data[0].z), TRAVERSALS[0, 1]), "0 is where it starts"
    assert [slider.currentvalue.prefix for slider in figure.layout.sliders] == ["first: ", "second: "]
    for slider, kernels in zip(figure.layout.sliders, TRAVERSALS, strict=True):
        assert slider.active == 1
        assert [step.label for step in slider.steps] == ["-2", "0", "2"]
        for step, kernel in zip(slider.steps, kernels, strict=True):
            assert np.array_equal(slices_of(step.args[0]["z"][0]), kernel)


def test_all_steps_share_a_scale_about_zero():
    trace = latent_sliders(TRAVERSALS, VALUES, NAMES, "").data[0]
    assert (trace.zmin, trace.zmax) == (-TRAVERSALS.max(), TRAVERSALS.max())


def test_the_picture_shows_the_same_kernels():
    figure = latent_grid(TRAVERSALS, VALUES, NAMES, "a group")
    shown = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(shown) == 6
    for image, kernel in zip(shown, TRAVERSALS.reshape(-1, 3, 3, 3), strict=True):
        assert np.array_equal(slices_of(image.get_array().filled(np.nan).tolist()), kernel)
        assert image.get_clim() == (-TRAVERSALS.max(), TRAVERSALS.max())
    figure.savefig(io.BytesIO())
