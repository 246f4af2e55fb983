from __future__ import annotations

import io

import numpy as np
import pytest

from dwp_kedro.evaluation.uncertainty_maps import uncertainty_maps
from dwp_kedro.imaging.overlays import take_slice

SHAPE = (8, 10, 12)


def given(where: slice) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    foreground = rng.uniform(size=SHAPE)
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:5, 3:6, where] = 1
    probability = np.stack([1 - foreground, foreground])
    entropy = -(probability * np.log(probability)).sum(0)
    return {"image": rng.normal(size=SHAPE), "truth": truth, "probability": probability, "entropy": entropy}


@pytest.mark.parametrize(("where", "slices"), [(slice(4, 9), [5, 6, 7]), (slice(0, 0), [3, 6, 8])])
def test_slices_of_the_truth_show_probability_and_entropy(where: slice, slices: list[int]):
    volumes = given(where)
    figure = uncertainty_maps(**volumes, title="a case", spacing=(1.0, 2.0, 3.0))
    panels = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert len(panels) == 9
    for row, z in enumerate(slices):
        image, probability, entropy = panels[3 * row : 3 * row + 3]
        assert image.get_ylabel() == f"slice {z}"
        for axes, values, most in (
            (probability, volumes["probability"][1], 1.0),
            (entropy, volumes["entropy"], np.log(2)),
        ):
            shown = axes.images[0]
            assert np.allclose(shown.get_array(), take_slice(values, 2, z))
            assert shown.get_clim() == (0, pytest.approx(most))
            assert axes.get_aspect() == 2.0
    figure.savefig(io.BytesIO())


def test_without_any_foreground_the_whole_scan_is_shown():
    volumes = given(slice(0, 0))
    volumes["probability"] = np.stack([np.ones(SHAPE), np.zeros(SHAPE)])
    figure = uncertainty_maps(**volumes, title="", n_slices=1)
    assert figure.axes[0].get_ylabel() == "slice 6"
