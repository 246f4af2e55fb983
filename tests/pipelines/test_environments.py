"""Every environment of conf/: its catalog has a place of its own for everything, its parameters are valid."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroSession
from kedro.io import MemoryDataset

from dwp_kedro.parameters import CohortParameters, GridParameters, MethodParameters
from dwp_kedro.parameters.check import ParameterError
from dwp_kedro.pipelines.plan import PlanHook

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = sorted(path.parent.name for path in REPOSITORY.glob("conf/*/globals.yml"))
# What reaches the report: figures that Kedro cannot load again, and what is known of the run that writes it.
ONLY_IN_MEMORY = {"target_evaluation.drawn_segmentations", "this_run"}
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


def place_of(dataset: Any) -> PurePosixPath:
    return PurePosixPath(str(getattr(dataset, "_filepath", None) or dataset._path))


def test_all_environments_are_looked_at():
    assert {"base", "template", "test", "hippocampus_to_lgg", "ms_to_brats18"} <= set(ENVIRONMENTS)


def test_the_gliomas_are_parted_once_for_all_environments():
    def grid_of(environment: str) -> dict[str, Any]:
        file = REPOSITORY / "conf" / environment / "parameters_target_evaluation.yml"
        return yaml.safe_load(file.read_text(encoding="utf-8"))["grid"]

    main = grid_of("hippocampus_to_lgg")
    assert (len(set(main["set_aside"])), len(set(main["test_set"]))) == (16, 33)
    assert not set(main["set_aside"]) & set(main["test_set"])
    for other in (grid_of("hippocampus_to_lgg_recipes"), grid_of("hippocampus_to_lgg_no_augmentation")):
        assert (other["set_aside"], other["test_set"]) == (main["set_aside"], main["test_set"])


@pytest.fixture(scope="module")
def datasets() -> dict[str, dict[str, Any]]:
    """Every dataset of every environment; None where the catalog has neither entry nor pattern for it."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plan", "project_path"):
            patch.setattr(PlanHook, name, getattr(PlanHook, name))
        for environment in ENVIRONMENTS:
            configure_project("dwp_kedro")
            # Kedro builds the catalog anew whenever a context is asked for it.
            catalog = KedroSession.create(REPOSITORY, env=env_option(environment)).load_context().catalog
            names = {name for name in pipelines["__default__"].datasets() if not name.startswith("params:")}
            found[environment] = {name: catalog.get(name) for name in sorted(names)}
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_dataset_has_an_entry(datasets: dict[str, dict[str, Any]], environment: str):
    found = datasets[environment]
    assert [name for name, dataset in found.items() if dataset is None] == []
    assert {name for name, dataset in found.items() if isinstance(dataset, MemoryDataset)} == ONLY_IN_MEMORY


def test_no_two_datasets_share_a_place_within_or_between_environments(datasets: dict[str, dict[str, Any]]):
    owners: dict[PurePosixPath, str] = {}
    for environment, found in datasets.items():
        for name in found.keys() - ONLY_IN_MEMORY:
            owner = f"{name} in {environment}"
            assert owners.setdefault(place_of(found[name]), owner) == owner
    for place, owner in owners.items():
        # A folder of partitions, which may be emptied before it is written, holds nothing else.
        assert not [owners[folder] for folder in place.parents if folder in owners], owner


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_parameters_are_valid(open_project: Any, environment: str):
    parameters = open_project(REPOSITORY, env_option(environment)).params
    assert isinstance(parameters["grid"], GridParameters)
    assert isinstance(parameters["data_processing"]["source"], CohortParameters)
    assert isinstance(parameters["data_processing"]["target"], CohortParameters)
    for method in parameters["grid"].methods:
        assert isinstance(parameters["methods"][method], MethodParameters)


def nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.mark.parametrize(("block", "key"), PARAMETERS_OF.items())
def test_a_misspelt_key_is_refused_by_name(open_project: Any, block: str, key: str):
    with pytest.raises(ParameterError, match=rf"{block}.{key} in --params: there is no such parameter"):
        open_project(REPOSITORY, None, nested(f"{block}.{key}", 1))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_parameter_of_the_command_changes_that_one_alone(open_project: Any, environment: str):
    given = {"compute": {"device": "cpu"}, "target_training": {"schedule": {"max_steps": 7}}}
    before = open_project(REPOSITORY, env_option(environment)).params
    after = open_project(REPOSITORY, env_option(environment), given).params
    schedule = before["target_training"].schedule.model_copy(update={"max_steps": 7})
    assert after["compute"] == before["compute"].model_copy(update={"device": "cpu"})
    assert after["target_training"] == before["target_training"].model_copy(update={"schedule": schedule})
    assert after["grid"] == before["grid"]


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


def test_networks_are_mlflow_models_by_default(open_project: Any):
    catalog = open_project(REPOSITORY, None).catalog
    assert catalog.load("params:tracking.models") == "local"
    assert catalog.load("params:tracking.upload_pictures") is False
