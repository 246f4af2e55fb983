"""New scans through a network that finds what is bright: where the mask lies, what else is said of it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch
from bright_blob import (
    PREPROCESSING,
    RADIUS,
    Bright,
    centred,
    checkpoint,
    distances,
    make_predictor,
    store,
    two_class_scan,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.imaging.volume import VolumeError
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.networks.unet import UNet3D
from dwp_kedro.parameters import NewScansParameters
from dwp_kedro.pipelines import predictor as module
from dwp_kedro.pipelines.architectures import network_arguments
from dwp_kedro.pipelines.predictor import Predictor
from dwp_kedro.training.settings import Compute

ORIENTATIONS = [
    "".join(code)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for code in itertools.product(*axes)
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    spacing=st.tuples(*[st.floats(0.9, 4.0)] * 3),
)
def test_the_mask_lies_where_the_blob_is_however_the_scan_is_stored(
    tmp_path_factory: pytest.TempPathFactory,
    orientation: str,
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
):
    path = tmp_path_factory.getbasetemp() / "stored.nii"
    turned = np.linalg.inv(nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(orientation), (1, 1, 1)))
    matrix = nib.eulerangles.euler2mat(*angles) @ turned[:3, :3] @ np.diag(spacing)
    shape = tuple(int(np.ceil(52 / side)) for side in spacing)
    scan = store(path, shape, centred(matrix, shape))
    segmentation = make_predictor().segment([path])
    assert segmentation.mask.shape == shape
    # What half a voxel of the network's grid, and half of the scan's own, may shift the border by.
    tolerance = 2 * math.sqrt(3) / 2 + np.linalg.norm(spacing) / 2
    away = distances(shape, scan.affine)
    assert (segmentation.mask[away < RADIUS - tolerance] == 1).all()
    assert not segmentation.mask[away > RADIUS + tolerance].any()
    assert segmentation.mask.any()


@pytest.mark.parametrize("orientation", ["LPS", "LAS", "RAS", "SRA", "PIL"])
@pytest.mark.parametrize("fit", ["resample", "pad_crop"])
def test_the_same_scan_in_another_orientation_has_the_same_mask(tmp_path: Path, orientation: str, fit: str):
    affine = centred(np.diag([1.2, 1.5, 3.0]), (40, 36, 18))
    first = store(tmp_path / "first.nii.gz", (40, 36, 18), affine)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(orientation)
    )
    nib.save(first.as_reoriented(change), tmp_path / "second.nii.gz")
    grid = {"preprocessing": {"grid": [32, 32, 16], "fit": fit, "foreground_threshold": None}}
    predictor = make_predictor(**grid)
    expected, other = (predictor.segment([tmp_path / f"{name}.nii.gz"]) for name in ("first", "second"))
    assert np.array_equal(nib.apply_orientation(expected.mask, change), other.mask)
    assert expected.mask.any()


def test_files_lie_on_the_scans_grid_and_say_what_they_hold(tmp_path: Path):
    store(tmp_path / "scan.nii.gz", (30, 32, 20), centred(np.diag([-1.5, 1.4, 2.5]), (30, 32, 20)))
    image = nib.load(tmp_path / "scan.nii.gz")
    predictor = make_predictor(Bright(), Bright(3.0), new_scans={"pictures": True})
    files = predictor.files("scan", predictor.segment([tmp_path / "scan.nii.gz"]))
    assert list(files) == ["mask.nii.gz", "probability.nii.gz", "uncertainty.nii.gz", "overlay.png"]
    assert files["overlay.png"].startswith(b"\x89PNG")
    loaded = {}
    for name in list(files)[:3]:
        (tmp_path / name).write_bytes(files[name])
        loaded[name] = nib.load(tmp_path / name)
        assert np.array_equal(loaded[name].affine, image.affine)
        assert loaded[name].shape == image.shape
    mask, probability, uncertainty = (np.asarray(one.dataobj) for one in loaded.values())
    assert (mask.dtype, probability.dtype, uncertainty.dtype) == (np.uint8, np.float32, np.float32)
    assert np.array_equal(mask == 1, probability > 0.5)
    # Entropy of a coin, nats; it is greatest, log 2, where the coin is fair.
    p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
    assert np.allclose(uncertainty, -p * np.log(p) - (1 - p) * np.log1p(-p), atol=1e-4)
    assert bytes(loaded["uncertainty.nii.gz"].header["descrip"]).rstrip(b"\0") == b"predictive entropy, nats"


def test_an_ensemble_averages_probabilities_and_is_uncertain_where_networks_disagree(tmp_path: Path):
    class Constant(nn.Module):
        def __init__(self, logit: float) -> None:
            super().__init__()
            self.logit = logit

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(x), torch.full_like(x, self.logit)], 1)

    store(tmp_path / "scan.nii", (30, 30, 30), centred(np.eye(3) * 2, (30, 30, 30)))
    segmentation = make_predictor(Constant(20.0), Constant(-20.0), Constant(20.0)).segment([tmp_path / "scan.nii"])
    assert np.allclose(segmentation.probability[1], 2 / 3, atol=1e-5)
    assert segmentation.uncertainty is not None
    assert np.allclose(segmentation.uncertainty, math.log(3) - 2 / 3 * math.log(2), atol=1e-5)
    assert make_predictor(Constant(20.0)).segment([tmp_path / "scan.nii"]).uncertainty is None


@pytest.mark.parametrize(("n_samples", "expected"), [(0, False), (1, False), (2, True)])
def test_one_bayesian_network_is_uncertain_if_its_weights_are_sampled(n_samples: int, expected: bool):
    network = UNet3D(1, 2, (2, 2, 2, 4))
    groups = kernel_groups(network, 1)
    bayesian = BayesianNetwork(network, groups, {group.name: 1.0 for group in groups})
    assert make_predictor(bayesian, new_scans={"n_samples": n_samples}).has_uncertainty is expected
    assert make_predictor(network, new_scans={"n_samples": n_samples}).has_uncertainty is False


def test_several_classes_have_a_fourth_axis_and_a_row_each(tmp_path: Path):
    predictor, segmentation = two_class_scan(tmp_path)
    assert set(np.unique(segmentation.mask)) == {0, 1, 2}
    (tmp_path / "p.nii.gz").write_bytes(predictor.files("scan", segmentation)["probability.nii.gz"])
    probability = np.asarray(nib.load(tmp_path / "p.nii.gz").dataobj)
    assert probability.shape == (30, 30, 30, 2)
    assert np.array_equal(np.moveaxis(probability, -1, 0), segmentation.probability[1:])
    rim, core = predictor.rows("scan", segmentation, 1.5)
    assert (core["components"], rim["components"] > 1) == (1, True)  # the rim is thinner than the grid's voxels
    assert (rim["class"], core["class"], core["name"], core["seconds"]) == ("rim", "core", "scan", 1.5)
    for value, row in ((1, rim), (2, core)):
        inside = segmentation.mask == value
        assert row["volume"] == pytest.approx(inside.sum() * 2 * 2 * 1.5 / 1000)
        assert row["volume_unit"] == "ml"
        assert row["components"] == ndimage.label(inside, np.ones((3, 3, 3)))[1]
        assert segmentation.uncertainty is not None
        assert row["mean_uncertainty"] == pytest.approx(segmentation.uncertainty[inside].mean())


def test_an_empty_mask_has_no_mean_uncertainty(tmp_path: Path):
    predictor, segmentation = two_class_scan(tmp_path, postprocessing={"min_volume": 1000.0})
    for row in predictor.rows("scan", segmentation, 1.0):
        assert (row["volume"], row["components"], row["mean_uncertainty"]) == (0, 0, None)


def test_the_least_volume_is_in_millilitres(tmp_path: Path):
    _, before = two_class_scan(tmp_path)
    n_core = int((before.mask == 2).sum())
    for least, is_left in ((n_core * 0.006, True), (n_core * 0.006 + 0.001, False)):
        _, segmentation = two_class_scan(tmp_path, postprocessing={"min_volume": least})
        assert (segmentation.mask == 2).any() == is_left


def test_a_scan_with_too_few_channels_is_refused_by_name(tmp_path: Path):
    store(tmp_path / "scan.nii", (20, 20, 20), np.eye(4))
    with pytest.raises(VolumeError, match=r"scan\.nii: 1 channel\(s\), the network takes 2"):
        make_predictor(channels=2).segment([tmp_path / "scan.nii"])


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"cell": {"method": "ri", "n_train": 2, "split": 0, "seed": 1}}, "ri n2 split0 seed1"),
        ({"card": {}}, "metadata card"),
    ],
)
def test_a_checkpoint_that_says_nothing_of_its_input_is_refused(metadata: dict[str, Any], words: str):
    with pytest.raises(CheckpointError, match=rf"{words}.*target_evaluation"):
        Predictor([Checkpoint({}, metadata)], NewScansParameters(), Compute())


def test_an_ensemble_of_different_inputs_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "rebuild", lambda _: [Bright()])
    cells = [checkpoint(), checkpoint(spacing="unknown")]
    with pytest.raises(CheckpointError, match=r"take different inputs \(spacing: header and unknown\)"):
        Predictor(cells, NewScansParameters(), Compute())
    # What cohorts declared is of no account where the new scans' spacing is said.
    assert Predictor(cells, NewScansParameters(spacing="header"), Compute()).input.spacing == "header"


def test_the_fingerprint_changes_with_weights_and_settings(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "rebuild", lambda _: [Bright()])
    changed = Checkpoint({"w": torch.tensor([0.0, 1.0])}, checkpoint().metadata)

    def fingerprint(of: Checkpoint, **new_scans: Any) -> str:
        return Predictor([of], NewScansParameters.model_validate(new_scans), Compute()).fingerprint

    prints = [
        fingerprint(checkpoint()),
        fingerprint(changed),
        fingerprint(checkpoint(), n_samples=3),
        fingerprint(checkpoint(), postprocessing={"fill_holes": True}),
        fingerprint(checkpoint(spacing="unknown")),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(checkpoint()) == prints[0]


class Local(nn.Module):
    """Says of every voxel by itself what it is, and remembers how much it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(tuple(x.shape[2:]))
        return torch.cat([torch.zeros_like(x), 5 * x], 1)


@pytest.mark.parametrize("grid", [[40, 40, 40], None])
@pytest.mark.parametrize(("window", "patch", "free", "expected"), [
    ("auto", [32, 24, 24], 10**12, (32, 24, 24)), ("auto", [40, 40, 40], 10**12, (40, 40, 40)),
    ("auto", [40, 40, 40], 1000, (24, 24, 24)), ("whole", [24, 24, 24], 1000, None),
    ([16, 16, 24], [24, 24, 24], 10**12, (16, 16, 24)),
])  # fmt: skip
def test_a_scan_is_seen_whole_or_through_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Any, window: Any, patch: Any, free: int, expected: Any
):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    image = store(tmp_path / "scan.nii", (38, 30, 33), centred(np.diag([-2.0, 2.0, 2.0]), (38, 30, 33)))
    network = Local()
    preprocessing = {**PREPROCESSING, "grid": grid}
    predictor = make_predictor(network, preprocessing=preprocessing, patch=patch, new_scans={"window": window})
    segmentation = predictor.segment([tmp_path / "scan.nii"])
    # Its own size is padded to multiples of 8.
    assert network.seen == {expected or ((40, 40, 40) if grid else (40, 32, 40))}
    array = np.asarray(image.dataobj).astype(float)
    clear = np.abs(array - array.mean()) > 1
    assert np.array_equal(segmentation.mask[clear] == 1, (array > array.mean())[clear])


def test_real_numbers_of_a_network(tmp_path: Path):
    """The way through a checkpoint's own networks, not the stand-in's."""
    network = UNet3D(1, 2, (2, 2, 2, 4))
    real = Checkpoint(
        {f"component_0/{name}": tensor for name, tensor in network.state_dict().items()},
        {**checkpoint().metadata, **network_arguments(network)},
    )
    store(tmp_path / "scan.nii", (20, 20, 20), centred(np.eye(3) * 3, (20, 20, 20)))
    predictor = Predictor([real, real], NewScansParameters(), Compute(device="cpu", precision="32-true"))
    single = Predictor([real], NewScansParameters(), Compute(device="cpu", precision="32-true"))
    both, one = (p.segment([tmp_path / "scan.nii"]) for p in (predictor, single))
    assert np.allclose(both.probability, one.probability, atol=1e-6)
    assert one.uncertainty is None
