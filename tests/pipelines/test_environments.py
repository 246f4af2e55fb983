"""Every environment of conf/: its catalog has a place of its own for everything, its parameters are valid."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, MemoryDataset
from kedro.validation.exceptions import ParameterValidationError
from pydantic import ValidationError

from dwp_kedro.parameters import CohortParameters, GridParameters, MethodParameters

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = sorted(path.parent.name for path in REPOSITORY.glob("conf/*/globals.yml"))
# Figures that Kedro cannot load again, on their way to the report.
ONLY_IN_MEMORY = {"target_evaluation.drawn_segmentations"}
PARAMETERS_OF = {
    "grid": "n_trian",
    "methods.pr": "layers",
    "source_training": "n_netwroks",
    "source_training.schedule": "max_epoch",
    "prior_learning": "latent",
    "target_training": "temprature",
    "compute": "cuda",
    "network": "width",
    "prediction": "samples",
    "data_processing.source": "label",
    "data_processing.target.preprocessing": "size",
}


def env_option(environment: str) -> str | None:
    return None if environment == "base" else environment


def datasets_of(catalog: DataCatalog) -> dict[str, Any]:
    """Return every dataset of every pipeline; None where the catalog has neither entry nor pattern for it."""
    names = {name for name in pipelines["__default__"].datasets() if not name.startswith("params:")}
    return {name: catalog.get(name) for name in sorted(names)}


def place_of(dataset: Any) -> PurePosixPath:
    return PurePosixPath(str(getattr(dataset, "_filepath", None) or dataset._path))


def test_all_environments_are_looked_at():
    assert {"base", "test", "hippocampus_to_lgg", "ms_to_brats18"} <= set(ENVIRONMENTS)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_dataset_has_an_entry(open_project: Any, environment: str):
    datasets = datasets_of(open_project(REPOSITORY, env_option(environment)).catalog)
    assert [name for name, dataset in datasets.items() if dataset is None] == []
    assert {name for name, dataset in datasets.items() if isinstance(dataset, MemoryDataset)} == ONLY_IN_MEMORY


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_two_datasets_share_a_place(open_project: Any, environment: str):
    datasets = datasets_of(open_project(REPOSITORY, env_option(environment)).catalog)
    owners: dict[PurePosixPath, str] = {}
    for name, dataset in datasets.items():
        if name not in ONLY_IN_MEMORY:
            assert owners.setdefault(place_of(dataset), name) == name
    for place, name in owners.items():
        # A folder of partitions, which may be emptied before it is written, holds nothing else.
        assert not [owners[folder] for folder in place.parents if folder in owners], name


def test_environments_write_to_folders_of_their_own(open_project: Any):
    owners: dict[PurePosixPath, str] = {}
    for environment in ENVIRONMENTS:
        datasets = datasets_of(open_project(REPOSITORY, env_option(environment)).catalog)
        for name in datasets.keys() - ONLY_IN_MEMORY:
            place = place_of(datasets[name])
            assert owners.setdefault(place, environment) == environment, f"{name} at {place}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_parameters_are_valid(open_project: Any, environment: str):
    parameters = open_project(REPOSITORY, env_option(environment)).params
    assert isinstance(parameters["grid"], GridParameters)
    assert isinstance(parameters["data_processing"]["source"], CohortParameters)
    assert isinstance(parameters["data_processing"]["target"], CohortParameters)
    for method in parameters["grid"].methods:
        assert isinstance(parameters["methods"][method], MethodParameters)
    # The report prints it, and it must lead back to this environment.
    option = "" if environment == "base" else f" --env {environment}"
    assert parameters["command"] == f"kedro run{option}"


def nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.mark.parametrize(("block", "key"), PARAMETERS_OF.items())
def test_a_misspelt_key_is_refused_by_name(open_project: Any, block: str, key: str):
    # Kedro validates what the nodes read; the plan validates some blocks before there are nodes.
    with pytest.raises((ParameterValidationError, ValidationError), match=rf"(?s){key}.*Extra inputs"):
        _ = open_project(REPOSITORY, None, nested(f"{block}.{key}", 1)).params


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_data_root_has_three_sources(open_project: Any, environment: str, monkeypatch: pytest.MonkeyPatch):
    def roots(**params: str) -> set[Path]:
        parameters = open_project(REPOSITORY, env_option(environment), params).params
        readers = [parameters["data_processing"][cohort].reader for cohort in ("source", "target")]
        prefix = REPOSITORY / params.get("data_root", expected)  # an absolute path stays itself
        assert all(reader.folder.is_relative_to(prefix) for reader in readers), readers
        return {reader.folder.relative_to(prefix) for reader in readers}

    expected = "data/01_raw"
    below = roots()
    expected = "/variable"
    monkeypatch.setenv("DWP_DATA_ROOT", expected)
    assert roots() == below
    assert roots(data_root="/option") == below
