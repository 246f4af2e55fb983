"""What one hospital hands over, and what another one makes of it."""

from __future__ import annotations

import getpass
import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroSession
from kedro.io.core import DatasetError
from safetensors.torch import load_file

from dwp_kedro.bayes.network_prior import unpack_prior
from dwp_kedro.datasets import CheckpointDataset, KernelTensorDataset
from dwp_kedro.networks.checkpoint import CheckpointError

Export = Callable[..., None]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> Export:
    """Run a pipeline of a project with ``--params``."""

    def run(project: Path, pipeline: str, **parameters: Any) -> None:
        monkeypatch.chdir(project)
        configure_project("dwp_kedro")
        with KedroSession.create(project, env="test", runtime_params=parameters) as session:
            session.run(pipeline_names=[pipeline])

    return run


def without_source(project: Path, finished_project: Path) -> Path:
    """Give a new project the target cohort alone, and let its parameters know of no other."""
    scans = "data/01_raw/phantom/tumours"
    shutil.copytree(finished_project / scans, project / scans)
    parameters = project / "conf/test/parameters_data_processing.yml"
    head, tail = parameters.read_text().split("  source:\n")
    parameters.write_text(head + "  target:\n" + tail.split("  target:\n")[1])
    return project


def test_a_prior_is_exported_and_used_where_there_are_no_source_data(
    project_copy: Path, new_project: Path, finished_project: Path, tmp_path: Path, export: Export, run_project: Any
):
    file = tmp_path / "handed over.safetensors"
    export(project_copy, "export_prior", output=str(file), source_network=True)
    shutil.rmtree(project_copy)
    hospital = without_source(new_project, finished_project)
    with (hospital / "conf/test/globals.yml").open("a") as stream:
        stream.write(f"prior: {file}\n")
    run_project(hospital, tags=["data_processing", "n2"])
    assert "params:data_processing.source" not in pipelines["__default__"].inputs()
    for method in ("ri", "pr", "prf", "dwp", "dwp_sp"):
        scores = pd.read_csv(hospital / f"data/07_model_output/test/{method}/n2_split0_seed0/scores.csv")
        assert scores["dsc"].between(0, 1).all()
    made = {path.relative_to(hospital).as_posix() for path in hospital.glob("data/0*/test/*")}
    assert not [name for name in made if "source" in name or "prior" in name or "04_feature" in name]


def test_the_exported_file_leaves_the_source_network_out_unless_told_so(
    project_copy: Path, tmp_path: Path, export: Export
):
    bare, whole = tmp_path / "bare.safetensors", tmp_path / "whole.safetensors"
    export(project_copy, "export_prior", output=str(bare))
    export(project_copy, "export_prior", output=str(whole), source_network=True)
    own = load_file(project_copy / "data/06_models/test/prior.safetensors")
    assert load_file(whole).keys() == own.keys()
    left_out = own.keys() - load_file(bare).keys()
    assert {name.split("/")[0] for name in left_out} == {"source_network", "source_posterior"}
    priors = [unpack_prior(CheckpointDataset(filepath=str(path)).load()) for path in (bare, whole)]
    assert [prior.card["carries_source_network"] for prior in priors] == [False, True]
    assert [prior.card["carries_source_posterior"] for prior in priors] == [False, True]
    assert not any(tensor.isnan().any() for tensor in load_file(whole).values())

    before = whole.read_bytes()
    with pytest.raises(
        DatasetError, match=r"(?s)Nothing was written.*whole\.safetensors\n.*whole\.safetensors\.md"
    ):
        export(project_copy, "export_prior", output=str(whole))
    assert whole.read_bytes() == before
    export(project_copy, "export_prior", output=str(whole), source_network=True)
    export(project_copy, "export_prior", output=str(whole), overwrite=True)
    assert whole.read_bytes() == bare.read_bytes()

    text = (tmp_path / "bare.safetensors.md").read_text()
    card = priors[0].card
    facts = [hashlib.sha256(bare.read_bytes()).hexdigest(), card["title"], card["licence"], "no source network"]
    facts += [f"{group['figures']['heldout_nelbo']:.4g}" for group in card["groups"].values()]
    facts += [f"{name} {version}" for name, version in card["versions"].items()]
    assert [fact for fact in facts if fact not in text] == []


def test_nothing_that_is_handed_over_names_a_subject_a_person_or_a_place(
    project_copy: Path, tmp_path: Path, export: Export
):
    folder = tmp_path / "handed over"
    export(project_copy, "export_prior", output=str(folder / "whole.safetensors"), source_network=True)
    export(project_copy, "export_kernels", output=str(folder / "kernels"))
    export(project_copy, "export_kernels", output=str(folder / "kernels"))  # once more: nothing changes
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 2 + 8

    subjects = pd.read_csv(project_copy / "data/03_primary/test/source_subjects.csv")
    manifest = pd.read_csv(project_copy / "data/02_intermediate/test/source_manifest.csv")
    secrets = [*subjects["subject"], *subjects["fingerprint"], *manifest["fingerprint"], *manifest["images"]]
    secrets += [str(project_copy), str(Path.home())]
    names = {getpass.getuser(), socket.gethostname()}  # perhaps so short that some weight spells them
    for path in files:
        content = path.read_bytes()
        assert [secret for secret in secrets if str(secret).encode() in content] == []
        if path.suffix == ".safetensors":
            content = content[8 : 8 + int.from_bytes(content[:8], "little")]
        assert names.isdisjoint(re.findall(r"[\w.-]+", content.decode()))


def test_another_ones_kernels_are_not_replaced(project_copy: Path, tmp_path: Path, export: Export):
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"(?s)Nothing was written.*card\.json.*overwrite=true"):
        export(project_copy, "export_kernels", output=str(folder))
    assert [path.read_text() for path in folder.iterdir()] == ["{}"]


def test_a_source_network_that_is_not_there_is_not_promised(project_copy: Path, tmp_path: Path, export: Export):
    bare = str(tmp_path / "bare.safetensors")
    export(project_copy, "export_prior", output=bare)
    with pytest.raises(CheckpointError, match="source_network=true, but the prior carries no source network"):
        export(
            project_copy, "export_prior", prior=bare, output=str(tmp_path / "p.safetensors"), source_network=True
        )


@pytest.fixture
def two_sources(project_copy: Path, export: Export) -> Path:
    """A finished project that has received kernels of a hospital in the north: its own, eight times as large."""
    folder = project_copy / "data/01_raw/received_kernels/north"
    export(project_copy, "export_kernels", output=str(folder))
    for path in folder.glob("*.safetensors"):
        dataset = KernelTensorDataset(filepath=str(path))
        kernels = dataset.load()
        kernels.kernels.mul_(8)
        dataset.save(kernels)
    parameters = project_copy / "conf/test/parameters_prior_learning.yml"
    parameters.write_text(parameters.read_text() + "  further_sources: [north]\n")
    return project_copy


def test_a_prior_is_learnt_from_kernels_of_two_sources(two_sources: Path, run_project: Any):
    file = two_sources / "data/06_models/test/prior.safetensors"
    alone = unpack_prior(CheckpointDataset(filepath=str(file)).load())
    run_project(two_sources, pipeline_names=["prior_learning"])
    both = unpack_prior(CheckpointDataset(filepath=str(file)).load())
    for name, group in both.groups.items():
        # the root mean square of kernels w and 8 w, as many of each
        assert group.scale == pytest.approx(alone.groups[name].scale * (65 / 2) ** 0.5, rel=0.02)
        figures = [prior.card["groups"][name]["figures"]["n_heldout_kernels"] for prior in (alone, both)]
        assert figures[1] == 2 * figures[0]
    assert both.card["further_sources"].keys() == {"north"}
    assert both.card["further_sources"]["north"] == both.card["source_cohort"]
    assert both.card["n_networks_learnt_from"] == 2 * alone.card["n_networks_learnt_from"]
    own = KernelTensorDataset(
        filepath=str(two_sources / "data/04_feature/test/group_1_kernels.safetensors")
    ).load()
    assert not [name for name in own.network if "/" in name], "what is handed on is one's own alone"


def test_kernels_that_do_not_fit_are_all_named_before_anything_runs(two_sources: Path, run_project: Any):
    received = two_sources / "data/01_raw/received_kernels"
    for name in ("twin", "own"):
        shutil.copytree(received / "north", received / name)
    for path in (received / "own").glob("*.safetensors"):
        dataset = KernelTensorDataset(filepath=str(path))
        kernels = dataset.load()
        kernels.kernels.div_(8)  # exactly: these are the networks of this project
        dataset.save(kernels)
    card = json.loads((received / "own/card.json").read_text())
    card["source_cohort"]["n_networks"] = 5
    (received / "own/card.json").write_text(json.dumps(card))
    (received / "twin/card.json").write_text("{")
    (received / "twin/group_3_kernels.safetensors").write_bytes(b"half a file")
    shutil.copy(received / "north/group_2_kernels.safetensors", received / "north/group_5_kernels.safetensors")
    (received / "north/card.json").write_text(json.dumps({"format": "something else", "versions": {}}))
    parameters = two_sources / "conf/test/parameters_prior_learning.yml"
    parameters.write_text(parameters.read_text().replace("[north]", "[north, twin, own]"))
    before = (two_sources / "data/06_models/test/prior.safetensors").stat().st_mtime_ns
    with pytest.raises(CheckpointError, match="received_kernels/ do not fit") as caught:
        run_project(two_sources, pipeline_names=["prior_learning"])
    text = str(caught.value)
    networks = "network_0, network_0_restarted, network_1, network_1_restarted"
    for problem in (
        "north, card.json: format is 'something else': Input should be 'dwp-kedro kernels 1'",
        "north, group_5 (decoder 1/4): they are of down1",
        "own, group_1 (encoder 1/1): they are of 2 network(s), card.json says 5",
        f"own: the kernels of {networks} are those of this project, and would count twice",
        f"twin: the kernels of {networks} are those of north, and would count twice",
    ):
        assert text.count(problem) == 1
    assert re.search(r"twin, card\.json: .*twin/card\.json", text)
    assert re.search(r"twin, group_3: .*group_3_kernels\.safetensors is not a whole safetensors file", text)
    assert "north, group_1" not in text
    assert (two_sources / "data/06_models/test/prior.safetensors").stat().st_mtime_ns == before
