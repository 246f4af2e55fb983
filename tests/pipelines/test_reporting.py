"""What the report says of priors learnt here, merged and received, and of what computed its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from matplotlib.figure import Figure

from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import NetworkPrior, pack_prior, unpack_prior
from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.parameters import CohortParameters, GridParameters, TargetTrainingParameters
from dwp_kedro.pipelines.target_evaluation import reporting
from dwp_kedro.pipelines.target_evaluation.cell import Cell
from dwp_kedro.pipelines.target_evaluation.nodes import collect_timings
from dwp_kedro.pipelines.target_evaluation.report_facts import (
    experiment_facts,
    method_facts,
    methods_in_words,
    target_facts,
)

NORTH = {
    "name": "lesions of the north",
    "description": "White matter lesions; 3 T.",
    "licence": "CC BY 4.0",
    "n_subjects": 77,
    "channels": 2,
    "classes": ["core", "rim"],
    "n_networks": 9,
    "restarted": False,
    "l2": 0.0,
}
THIS_RUN = {"command": "kedro run --env x", "restricted by": "tags", "started": "2026-01-02 03:04:05+00:00"}
RECEIVED = {"prior file": "ms.safetensors", "prior sha256": "12ab"}


@pytest.fixture
def prior(finished_project: Path) -> NetworkPrior:
    file = finished_project / "data/06_models/test/prior.safetensors"
    return unpack_prior(CheckpointDataset(filepath=str(file)).load())


@pytest.fixture
def merged(prior: NetworkPrior) -> NetworkPrior:
    prior.card["further_sources"] = {"north": NORTH}
    return prior


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what the node tells the page's builder."""

    def tell(prior: NetworkPrior | None, this_run: dict[str, str], **kernels: KernelTensor) -> dict[str, Any]:
        monkeypatch.setattr(reporting, "build_report", lambda **given: given)
        chart = go.Figure()
        cohort = {
            "name": "targets",
            "description": "d",
            "licence": "CC0-1.0",
            "reader": {"layout": "decathlon", "folder": "targets"},
            "labels": {"core": [1], "rim": [2]},
            "preprocessing": {"grid": [16, 16, 16]},
        }
        cells = {"train_seconds": 1.0, "train_steps": 1, "peak_memory_mb": 1.0}
        by_gpu = {**cells, "device": "a GPU (cuda:0)", "precision": "bf16-mixed"}
        return reporting.write_report(  # type: ignore[return-value]
            pd.DataFrame(),
            collect_timings(ri__2__0__0=by_gpu, dwp__2__0__0=by_gpu, dwp__3__0__0=cells),  # type: ignore[arg-type]
            *[chart] * 4,
            Figure(),
            chart,
            pd.DataFrame(),
            pd.DataFrame({"subject": list("abc")}),
            CohortParameters.model_validate(cohort),
            GridParameters(n_train=[2, 3], methods=["ri", "dwp"]),
            TargetTrainingParameters(),
            {"ri": {"start": "he"}, "dwp": {"start": "prior", "prior": "deep_weight_prior"}},
            "x",
            this_run,
            Cell("dwp", 3, 0, 7),
            None if prior is None else pack_prior(prior),
            **kernels,
        )

    return tell


def test_a_merged_prior_names_all_its_sources(told: Any, merged: NetworkPrior):
    channels = torch.arange(2)
    kernels = KernelTensor(torch.ones(2, 3, 3, 3), ["network_0"] * 2, ["init_conv"] * 2, channels, channels)
    given = told(merged, {**THIS_RUN, "commit": "abc"}, group_1=kernels)
    assert given["title"] == "Deep weight prior transfer: phantom plaques, lesions of the north → targets"
    assert given["facts"]["Source 1"]["cohort"] == "phantom plaques"
    assert given["facts"]["Source 1"]["networks"] == "2 and their restarts"
    assert given["facts"]["Source 2"] == {
        "cohort": "lesions of the north",
        "description": "White matter lesions; 3 T.",
        "licence": "CC BY 4.0",
        "subjects": "77",
        "networks": "9",
        "channels": "2",
        "classes": "core, rim",
    }
    assert given["facts"]["Prior"]["origin"] == "learnt here"
    assert given["facts"]["Prior"]["kernels received of"] == "north"
    assert given["facts"]["Target"]["classes"] == "core, rim"
    captions = [caption for caption in given["figures"] if caption.startswith("Kernels of")]
    both = "which was learnt from phantom plaques, lesions of the north"
    assert captions[0] == (
        "Kernels of group_1 (encoder 1/1): left, of networks trained on phantom plaques; right, drawn from the "
        f"prior, {both}"
    )
    assert captions[1] == f"Kernels of group_2 (encoder 1/2): drawn from the prior, {both}"
    titles = [axes.get_title() for axes in given["figures"][captions[0]].axes[:2]]
    assert titles == ["kernels of source networks (2)", "samples of the prior (12)"]
    assert given["figures"][captions[1]].axes[0].get_title() == "samples of the prior (12)"


def test_a_received_prior_is_named_with_its_file(told: Any, merged: NetworkPrior):
    given = told(merged.without_source(), {**THIS_RUN, "commit": "", **RECEIVED})
    assert list(given["facts"]) == ["Source 1", "Source 2", "Prior", "Target", "Experiment", "Methods"]
    facts = given["facts"]["Prior"]
    assert facts["received as"] == "ms.safetensors"
    assert facts["sha256"] == "12ab"
    assert f"torch {torch.__version__}" in facts["made with"]
    assert facts["carries"] == "no source network"
    assert "learnt here" not in facts.values()
    assert given["circumstances"]["Run"]["commit"] == "not known: not a Git repository"
    assert given["prior"].loc["group_1", "place"] == "encoder 1/1"


def test_without_a_prior_nothing_is_claimed_of_a_source(told: Any):
    given = told(None, {**THIS_RUN, "commit": "abc"})
    assert given["facts"]["Source"]["cohort"] == "nothing"
    assert "Prior" not in given["facts"]
    assert given["prior"] is None


def test_the_page_says_what_computed_it_when_and_how(told: Any):
    given = told(None, {**THIS_RUN, "commit": "abc"})
    assert (given["command"], given["restricted_by"]) == ("kedro run --env x", "tags")
    assert given["circumstances"]["Run"] == {"began": "2026-01-02 03:04:05+00:00", "commit": "abc"}
    hardware = given["circumstances"]["Hardware"]
    assert hardware["trained on"] == "a GPU (cuda:0) (2 cells); not recorded (1 cell)"
    assert hardware["precision"] == "bf16-mixed (2 cells); not recorded (1 cell)"
    assert hardware["threads of torch"] == str(torch.get_num_threads())
    assert given["circumstances"]["Versions"]["lightning"]
    (caption,) = [caption for caption in given["figures"] if caption.startswith("Best, median")]
    assert "with n = 3 training volumes (draw 0, seed 7)" in caption


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ("header", "from the scans, in mm"),
        ("unknown", "unknown: distances and volumes are in voxels"),
        ([0.9, 0.9, 5], "0.9 × 0.9 × 5 mm, declared in place of the scans' headers"),
    ],
)
def test_the_target_says_where_its_voxel_size_comes_from(spacing: Any, words: str):
    cohort = CohortParameters.model_validate(
        {
            "name": "targets",
            "description": "d",
            "reader": {"layout": "decathlon", "folder": "targets"},
            "spacing": spacing,
            "preprocessing": {"grid": [16, 16, 16]},
        }
    )
    assert target_facts(cohort, pd.DataFrame({"subject": ["a"]}))["voxel size"] == words


def test_patches_are_part_of_the_experiment():
    def told(**training: Any) -> dict[str, str]:
        return experiment_facts("x", GridParameters(), TargetTrainingParameters.model_validate(training))

    assert told(patches={"size": [16, 24, 32]})["patches"] == "16×24×32"
    assert "patches" not in told()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"start": "he"}, "U-Net, random start"),
        ({"start": "he", "network": "dynunet"}, "MONAI's DynUNet, random start"),
        (
            {"start": "source", "trained_layers": ["down1", "out"]},
            "U-Net, started at a source network, of which only down1, out train",
        ),
        ({"start": "source", "components": 3}, "3 U-Nets averaged, started at source networks"),
        (
            {"start": "prior", "prior": "deep_weight_prior"},
            "U-Net, start drawn from the prior, under the prior: deep weight prior; temperature 0.25, weight "
            "samples, 0.02 of the kernels per step, log-variances at 1 times the learning rate",
        ),
        (
            {
                "start": "source",
                "prior": ["deep_weight_prior", "source_posterior"],
                "target_training": {
                    "temperature": 0,
                    "estimator": "local_reparameterisation",
                    "kernel_fraction": 1,
                    "log_variance_rate": 30,
                },
            },
            "U-Net, started at a source network, with the noise of a posterior under the deep weight prior and "
            "source posterior, without that prior's pull; temperature 0, local reparameterisation, 1 of the "
            "kernels per step, log-variances at 30 times the learning rate",
        ),
    ],
)
def test_a_method_is_told_by_its_own_settings(record: dict[str, Any], words: str):
    training = TargetTrainingParameters(temperature=0.25)
    methods = {"mine": record, "not run": {"start": "he"}}
    assert method_facts(GridParameters(methods=["mine"]), methods, training) == {"mine": words}


def test_a_temperature_of_zero_for_all_methods_leaves_the_noise_alone():
    methods = {"mine": {"start": "source", "prior": "deep_weight_prior"}}
    words = methods_in_words(GridParameters(methods=["mine"]), methods, TargetTrainingParameters(temperature=0))
    assert words["mine"].endswith("under the deep weight prior, without that prior's pull")
