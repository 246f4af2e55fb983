"""What a finished ``kedro run --env test`` leaves behind, looked at with nothing but general tools."""

from __future__ import annotations

import html
import json
import math
import re
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from cells import CELLS, METHODS, N_SAMPLES, SIZES, SPLITS
from safetensors import safe_open
from scipy import ndimage

from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.pipelines.architectures import rebuild
from dwp_kedro.training.seeds import make_generator

OTHERS = [method for method in METHODS if method != "dwp"]
N_TEST = 3
# What --env test says of the target: subjects 0 to 6, one of them set aside.
SUBJECTS = {f"tumour_{index:03d}" for index in range(7)}
SET_ASIDE = {"tumour_003"}


@pytest.fixture(scope="module")
def uncertainties(reporting: Path) -> pd.DataFrame:
    return pd.read_csv(reporting / "uncertainty.csv")


@pytest.fixture(scope="module")
def splits(finished_project: Path) -> pd.DataFrame:
    return pd.read_csv(finished_project / "data/03_primary/test/splits.csv")


def output_folder(project: Path, method: str, n_train: int, split: int) -> Path:
    return project / f"data/07_model_output/test/{method}/n{n_train}_split{split}_seed0"


def raw_scan(project: Path, subject: str, what: str) -> nib.Nifti1Image:
    return nib.load(project / f"data/01_raw/phantom/tumours/{subject}/{subject}_{what}.nii.gz")


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return DSC and IoU of two masks; two empty ones agree."""
    shared, total = float((a & b).sum()), float(a.sum() + b.sum())
    return (2 * shared / total, shared / (total - shared)) if total else (1.0, 1.0)


# --- splits, predictions, scores ---------------------------------------------------------------------------


def test_no_subject_has_two_roles_in_a_split(splits: pd.DataFrame):
    for _, of_split in splits.groupby("split"):
        assert sorted(of_split["subject"]) == sorted(SUBJECTS)
        assert set(of_split.query("role == 'set_aside'")["subject"]) == SET_ASIDE
        assert len(of_split.query("role == 'test'")) == N_TEST
        training = of_split.query("role == 'train'").sort_values("rank")
        assert training["rank"].tolist() == list(range(len(SUBJECTS) - N_TEST - 1))


def test_every_cell_predicts_the_test_subjects_of_its_split(finished_project: Path, splits: pd.DataFrame):
    for method, n_train, split in CELLS:
        tested = set(splits.query(f"split == {split} and role == 'test'")["subject"])
        for grid in ("network_grid", "own_grid"):
            files = (output_folder(finished_project, method, n_train, split) / grid).glob("*.nii.gz")
            assert {file.name.removesuffix(".nii.gz") for file in files} == tested


def test_predictions_lie_on_the_grids_of_the_scans(finished_project: Path):
    predictions = list(finished_project.glob("data/07_model_output/test/*/*/own_grid/*.nii.gz"))
    assert len(predictions) == len(CELLS) * N_TEST
    for path in predictions:
        prediction = nib.load(path)
        scan = raw_scan(finished_project, path.name.removesuffix(".nii.gz"), "image")
        assert prediction.shape == scan.shape == (46, 40, 38)
        np.testing.assert_allclose(prediction.affine, scan.affine, atol=1e-4)


def test_scores_are_those_of_the_predictions_on_disk(finished_project: Path, scores: pd.DataFrame):
    for row in scores.itertuples():
        folder = output_folder(finished_project, row.method, row.n_train, row.split)
        prediction = nib.load(folder / "network_grid" / f"{row.subject}.nii.gz").get_fdata() > 0
        label = nib.load(finished_project / f"data/03_primary/test/target/{row.subject}/label.nii.gz")
        dsc, iou = overlap(prediction, label.get_fdata() > 0)
        assert (row.dsc, row.iou) == pytest.approx((dsc, iou), abs=1e-6)
        voxel = math.prod(float(side) for side in label.header.get_zooms()) / 1000
        assert row.volume_predicted == pytest.approx(prediction.sum() * voxel, rel=1e-4)
        on_own_grid = nib.load(folder / "own_grid" / f"{row.subject}.nii.gz").get_fdata() > 0
        own_label = raw_scan(finished_project, row.subject, "label").get_fdata() > 0
        assert row.own_grid_dsc == pytest.approx(overlap(on_own_grid, own_label)[0], abs=1e-6)


def test_uncertainties_are_those_of_sampled_weights(finished_project: Path, uncertainties: pd.DataFrame):
    """Of one row, from the checkpoint: passes, their mean, and the areas as shares of pairs of voxels."""
    file = finished_project / "data/06_models/test/target_evaluation/dwp/n3_split1_seed0.safetensors"
    [network] = rebuild(CheckpointDataset(filepath=str(file)).load())
    assert isinstance(network, BayesianNetwork)
    of_cell = uncertainties.query("method == 'dwp' and n_train == 3 and split == 1")
    row = of_cell[of_cell["auroc_mutual_information"].notna()].iloc[0]
    folder = finished_project / "data/03_primary/test/target" / row["subject"]
    image, label = (np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj) for name in ("image_0000", "label"))
    scan = torch.from_numpy(image.astype(np.float32))[None, None]

    generator, passes = make_generator(1, "prediction of network 0"), []  # a cell's seed: 1000·seed + split
    for _ in range(N_SAMPLES):
        with torch.no_grad(), network.weight_sample(generator):
            passes.append(network(scan).softmax(1)[0])
    probability = torch.stack(passes).mean(0)
    entropy = torch.special.entr(probability).sum(0)
    information = entropy - torch.special.entr(torch.stack(passes)).sum(1).mean(0)
    predicted, truth = probability[1].numpy() > 0.5, label > 0
    region = ndimage.binary_dilation(predicted | truth, iterations=3)
    assert row["dsc"] == pytest.approx(overlap(predicted, truth)[0])
    for name, values in (("entropy", entropy), ("mutual_information", information)):
        area = share_of_pairs(values.numpy()[region], (predicted != truth)[region])
        assert row[f"auroc_{name}"] == pytest.approx(area, abs=1e-3), name


def share_of_pairs(values: np.ndarray, is_wrong: np.ndarray) -> float:
    """How often, of a wrong and a right voxel, the wrong one has the greater value."""
    differences = values[is_wrong][:, None] - values[~is_wrong][None]
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def test_posteriors_alone_know_what_their_weights_disagree_on(uncertainties: pd.DataFrame):
    has_errors = uncertainties[uncertainties["auroc_undefined"].isna()]
    known = has_errors.groupby("method")["auroc_mutual_information"].apply(lambda areas: areas.notna().all())
    assert known.to_dict() == {method: method in {"dwp", "dwp_sp"} for method in METHODS}
    assert uncertainties.query("method == 'ri'")["auroc_mutual_information"].isna().all()


def test_the_scores_table_has_each_cell_and_test_subject_once(scores: pd.DataFrame, splits: pd.DataFrame):
    tested = splits.query("role == 'test'")[["split", "subject"]].itertuples(index=False)
    expected = sorted(
        (method, n_train, split, 0, subject, "foreground")
        for split, subject in tested
        for method in METHODS
        for n_train in SIZES
    )
    keys = scores[["method", "n_train", "split", "seed", "subject", "class"]].itertuples(index=False, name=None)
    assert sorted(keys) == expected
    assert len(scores) == len(CELLS) * N_TEST
    assert np.isfinite(scores.select_dtypes("number")).all(axis=None)


# --- summary -----------------------------------------------------------------------------------------------


def split_means(scores: pd.DataFrame, method: str, n_train: int, metric: str) -> list[float]:
    return [
        statistics.mean(
            value
            for m, n, s, value in zip(
                scores["method"], scores["n_train"], scores["split"], scores[metric], strict=True
            )
            if (m, n, s) == (method, n_train, split)
        )
        for split in SPLITS
    ]


@pytest.mark.parametrize(("metric", "digits"), [("dsc", 2), ("iou", 2), ("hd95", 1)])
def test_summary_tables_are_means_and_deviations_over_splits(
    reporting: Path, scores: pd.DataFrame, metric: str, digits: int
):
    table = pd.read_csv(reporting / f"summary_{metric}.csv", index_col="n_train")
    metrics = json.loads((reporting / "metrics.json").read_text())
    assert list(table.columns) == METHODS
    assert list(table.index) == SIZES
    for method in METHODS:
        for n_train in SIZES:
            means = split_means(scores, method, n_train, metric)
            mean, deviation = statistics.mean(means), statistics.stdev(means)
            assert table.loc[n_train, method] == f"{mean:.{digits}f} ({deviation:.{digits}f})"
            assert metrics[f"{method}_n{n_train}_{metric}_mean"] == pytest.approx(mean)
            assert metrics[f"{method}_n{n_train}_{metric}_sd"] == pytest.approx(deviation)


def test_paired_tests_compare_dwp_with_each_other_method(reporting: Path, scores: pd.DataFrame):
    table = pd.read_csv(reporting / "comparison.csv").set_index(["n_train", "method"])
    assert sorted(table.index) == sorted((n_train, method) for n_train in SIZES for method in OTHERS)
    for (n_train, method), row in table.iterrows():
        of_size = scores[scores["n_train"] == n_train]
        pairs = of_size.pivot_table(index=["subject", "split"], columns="method", values="dsc")
        by_subject = (pairs["dwp"] - pairs[method]).groupby("subject").mean()
        assert row["n_subjects"] == len(by_subject)
        assert row["mean_difference"] == pytest.approx(by_subject.mean())


def test_the_report_shows_the_result_and_how_it_came_about(reporting: Path):
    page = (reporting / "report.html").read_text()
    for cell in pd.read_csv(reporting / "summary_dsc.csv", index_col="n_train").to_numpy().ravel():
        assert cell in page
    timings = pd.read_csv(reporting / "timings.csv")
    (device,), (precision,) = timings["device"].unique(), timings["precision"].unique()
    libraries = [version(name) for name in ("torch", "lightning", "monai", "kedro", "mlflow")]
    facts = ["phantom plaques", "phantom tumours", "made-up scans", "CC0-1.0", *METHODS, *libraries]
    facts += [html.escape(device), f"<dd>{precision}</dd>", "<dd>2 and their restarts</dd>", "learnt here"]
    facts += ["n = 3 training volumes (draw 0, seed 0)", "left, of networks trained on phantom plaques"]
    assert [fact for fact in facts if fact not in page] == []
    assert "<pre>kedro run --env test</pre>" in page
    assert "made only a part" not in page
    assert 'src="http' not in page, "it must open without a network"


# --- the portable prior ------------------------------------------------------------------------------------


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)


def test_the_prior_names_no_subject_and_no_path(finished_project: Path):
    file = finished_project / "data/06_models/test/prior.safetensors"
    with safe_open(file, "pt") as opened:
        values = [json.loads(text) if text[:1] in '{["' else text for text in opened.metadata().values()]
    texts = list(strings_in(values))
    assert "phantom plaques" in texts, "the card is what is searched"
    # A kernel group's place in the network, as in "encoder 1/4", is no path.
    paths = [t for t in texts if re.search(r"[/\\]", re.sub(r"^(en|de)coder 1/[1248]$", "", t))]
    assert paths == []
    content = file.read_bytes()
    subjects = pd.read_csv(finished_project / "data/03_primary/test/source_subjects.csv")
    for secret in (*subjects["subject"], *subjects["fingerprint"], *SUBJECTS, finished_project.parent.name):
        assert str(secret).encode() not in content


def test_the_prior_holds_seven_groups_and_the_source_network(finished_project: Path):
    with safe_open(finished_project / "data/06_models/test/prior.safetensors", "pt") as opened:
        parts = {name.split("/")[0] for name in opened.keys()}  # noqa: SIM118
        carried = {
            name.removeprefix("source_network/"): opened.get_tensor(name)
            for name in opened.keys()  # noqa: SIM118
            if name.startswith("source_network/")
        }
    assert parts == {
        *(f"group_{number}" for number in range(1, 8)),
        "controls",
        "source_network",
        "source_posterior",
    }
    with safe_open(finished_project / "data/06_models/test/source_training/whole_0.safetensors", "pt") as whole:
        assert set(carried) == set(whole.keys())
        assert all((carried[name] == whole.get_tensor(name)).all() for name in carried)
