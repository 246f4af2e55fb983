"""A colleague's prior that does not fit is refused before anything runs; test_export_prior has one that fits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines

from dwp_kedro.bayes.network_prior import NetworkPrior, pack_prior, unpack_prior
from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.parameters import (
    CohortParameters,
    MethodParameters,
    NetworkParameters,
    TargetTrainingParameters,
)
from dwp_kedro.pipelines.target_evaluation.prior_check import PriorFitHook, find_misfits

RECORDS = {
    "pr": {"start": "source"},
    "dwp": {"start": "prior", "prior": "deep_weight_prior"},
    "gaussian": {"start": "he", "prior": "gaussian"},
    "sp": {"start": "he", "prior": "source_posterior"},
    "standard_normal": {"start": "he", "prior": "standard_normal"},
}
Misfits = Callable[..., list[str]]


@pytest.fixture
def prior(finished_project: Path) -> NetworkPrior:
    file = finished_project / "data/06_models/test/prior.safetensors"
    return unpack_prior(CheckpointDataset(filepath=str(file)).load())


@pytest.fixture
def misfits(tmp_path: Path) -> Misfits:
    """Ask for misfits of a prior with methods of ``RECORDS``, at other widths, channels and classes if wanted."""

    def ask(
        prior: NetworkPrior,
        methods: list[str],
        channels: tuple[int, int, int, int] = (2, 2, 2, 4),
        images: int = 1,
        labels: Any = "above_zero",
        components: int = 1,
    ) -> list[str]:
        cohort = CohortParameters.model_validate(
            {
                "name": "targets",
                "description": "",
                "reader": {"layout": "decathlon", "folder": tmp_path, "channels": list(range(images))},
                "labels": labels,
                "preprocessing": {"grid": [16, 16, 16]},
            }
        )
        records = {
            name: MethodParameters.model_validate({**RECORDS[name], "components": components}) for name in methods
        }
        network = NetworkParameters(channels=channels)
        return find_misfits(prior, records, cohort, TargetTrainingParameters(), network)

    return ask


def test_a_prior_with_all_fits_every_method(prior: NetworkPrior, misfits: Misfits):
    assert misfits(prior, list(RECORDS)) == []


def test_kernel_priors_fit_networks_of_other_widths_channels_and_classes(prior: NetworkPrior, misfits: Misfits):
    other = {"channels": (3, 5, 4, 2), "images": 2, "labels": {"core": [1], "rim": [2]}}
    assert misfits(prior, ["dwp", "gaussian", "standard_normal"], **other) == []


@pytest.mark.parametrize(
    ("other", "tensor"),
    [
        ({"channels": (3, 2, 2, 4)}, "init_conv.weight: checkpoint (2, 1, 3, 3, 3), network (3, 1, 3, 3, 3)"),
        ({"images": 2}, "init_conv.weight: checkpoint (2, 1, 3, 3, 3), network (2, 2, 3, 3, 3)"),
        ({"labels": {"a": [1], "b": [2]}}, "out.weight: checkpoint (2, 2, 1, 1, 1), network (3, 2, 1, 1, 1)"),
    ],
)
def test_a_carried_network_of_other_shapes_is_refused_with_names(
    prior: NetworkPrior, misfits: Misfits, other: dict[str, Any], tensor: str
):
    (problem,) = misfits(prior, ["pr", "dwp"], **other)
    assert problem.startswith("method 'pr': the prior's source network does not fit")
    assert tensor in problem


def test_a_carried_posterior_of_other_shapes_is_refused_with_names(prior: NetworkPrior, misfits: Misfits):
    (problem,) = misfits(prior, ["sp"], channels=(3, 2, 2, 4))
    assert problem.startswith("method 'sp': the source posterior does not fit the network")
    assert "init_conv: source posterior (2, 1, 3, 3, 3), network (3, 1, 3, 3, 3)" in problem


def test_methods_that_need_what_is_not_carried_are_refused_by_name(prior: NetworkPrior, misfits: Misfits):
    first, second = misfits(prior.without_source(), list(RECORDS))
    assert first.startswith("method 'pr'")
    assert "this prior carries none" in first
    assert second.startswith("method 'sp'")


def test_components_do_not_share_the_one_network_that_is_carried(prior: NetworkPrior, misfits: Misfits):
    (problem,) = misfits(prior, ["pr", "dwp"], components=2)
    assert problem.startswith("method 'pr': its 2 components start from source networks of their own")


def test_groups_without_a_prior_and_groups_in_other_places_are_named(prior: NetworkPrior, misfits: Misfits):
    prior.card["groups"]["group_2"]["label"] = "encoder 1/16"
    del prior.card["groups"]["group_7"], prior.groups["group_7"]
    problems = misfits(prior, ["dwp", "standard_normal", "gaussian"])
    assert [problem.split(":")[0] for problem in problems] == ["method 'dwp'", "method 'gaussian'"]
    for problem in problems:
        assert "group_2: encoder 1/16 in the file, encoder 1/2 in the network" in problem
        assert "group_7: nothing in the file, decoder 1/1 in the network" in problem
        assert "group_1" not in problem


def test_a_control_that_lacks_a_group_is_refused_by_name(prior: NetworkPrior, misfits: Misfits):
    del prior.controls["gaussian"]["group_3"]
    (problem,) = misfits(prior, ["dwp", "gaussian"])
    assert problem == "method 'gaussian': the prior does not fit the network: no prior for group_3 (encoder 1/4)"


@pytest.fixture
def hospital(finished_project: Path, new_project: Path, prior: NetworkPrior) -> Path:
    """A project that holds the target cohort and a prior without a source network."""
    scans = "data/01_raw/phantom/tumours"
    shutil.copytree(finished_project / scans, new_project / scans)
    file = new_project / "data/01_raw/prior.safetensors"
    CheckpointDataset(filepath=str(file)).save(pack_prior(prior.without_source()))
    return new_project


def test_the_setting_decides_what_runs(hospital: Path, open_project: Any):
    context = open_project(hospital, runtime_params={"prior": "data/01_raw/prior.safetensors"})
    names = {node.name for node in pipelines["__default__"].nodes}
    assert not [name for name in names if name.startswith(("source_training", "prior_learning"))]
    assert not [name for name in names if name.endswith("_source")]
    free = {name for name in pipelines["__default__"].inputs() if not name.startswith("params:")}
    assert free == {"received_prior", "this_run"}
    assert context.catalog.exists("received_prior")


def test_the_run_stops_before_the_first_scan_is_read(hospital: Path, run_project: Any):
    with (hospital / "conf/test/globals.yml").open("a") as stream:
        stream.write("prior: data/01_raw/prior.safetensors\n")
    with pytest.raises(CheckpointError) as caught:
        run_project(hospital)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the prior {hospital / 'data/01_raw/prior.safetensors'} does not fit this run:"
    refused = [line.split("'")[1] for line in lines if line.startswith("  method '")]
    assert refused == ["dwp_sp", "pr", "prf"]
    assert "of the network, it carries nothing." in lines[-3]
    assert lines[-2] == "This run has the widths [2, 2, 2, 4] and the classes foreground."
    assert "grid.methods" in lines[-1]
    assert not list(hospital.glob("data/02_intermediate/**/*.csv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "dwp-kedro prior 1"}, r"this file is not a prior that can be read here .*'dwp-kedro prior 1'"),
        (
            {"card": {"title": "half a card"}},
            "in its card, architecture is missing; groups is missing; .*licence is missing",
        ),
        (None, "is not a whole safetensors file"),
    ],
)
def test_a_prior_that_cannot_be_read_is_named(
    prior: NetworkPrior, hospital: Path, open_project: Any, change: dict[str, Any] | None, message: str
):
    packed = pack_prior(prior)
    received, own = (
        hospital / f"data/{name}" for name in ("01_raw/prior.safetensors", "06_models/test/prior.safetensors")
    )
    for file in (received, own):
        CheckpointDataset(filepath=str(file)).save(Checkpoint(packed.weights, packed.metadata | (change or {})))
        if change is None:
            file.write_bytes(file.read_bytes()[:1000])
    for file, given in ((received, {"prior": "data/01_raw/prior.safetensors"}), (own, {})):
        catalog = open_project(hospital, runtime_params=given).catalog
        for pipeline in (pipelines["__default__"].only_nodes_with_tags("dwp"), pipelines["export_prior"]):
            with pytest.raises(CheckpointError, match=f"^the prior {file} cannot be used: .*{message}"):
                PriorFitHook().before_pipeline_run(pipeline, catalog)


def test_methods_that_are_not_in_the_run_are_not_asked(hospital: Path, open_project: Any):
    catalog = open_project(hospital, runtime_params={"prior": "data/01_raw/prior.safetensors"}).catalog
    whole = pipelines["__default__"]
    PriorFitHook().before_pipeline_run(whole.only_nodes_with_tags("dwp", "ri", "monai"), catalog)
    with pytest.raises(CheckpointError, match="method 'pr': starts from a source network"):
        PriorFitHook().before_pipeline_run(whole.only_nodes_with_tags("pr"), catalog)
