from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from dwp_kedro.parameters.check import ParameterError, find_problems
from dwp_kedro.parameters.files import EnvironmentFiles

BASE = {
    "globals.yml": "data_root: data/01_raw\nenvironment: base\n",
    "catalog.yml": "x: { filepath: '${runtime_params:output,${globals:environment}}' }\n",
    "parameters_a.yml": "environment: ${globals:environment}\nblock: { one: 1, two: { three: 3, four: 4 } }\n",
    "parameters_b.yml": "other: { five: 5 }\nroot: '${runtime_params:data_root,${globals:data_root}}'\n",
}
SETTINGS = {"base_env": "base", "default_run_env": "local"}


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def files_of(project: Path, study: dict[str, str], **params: Any) -> EnvironmentFiles:
    write(project / "conf" / "base", BASE)
    write(project / "conf" / "study", study)
    loader = OmegaConfigLoader(str(project / "conf"), env="study", runtime_params=params, **SETTINGS)
    return EnvironmentFiles(loader, SETTINGS, project)


def test_params_change_single_values_also_of_blocks_that_only_base_has(tmp_path: Path):
    files = files_of(
        tmp_path, {"parameters.yml": "other: { six: 6 }\n"}, block={"two": {"three": 0}}, other={"seven": 7}
    )
    parameters = files.parameters()
    assert parameters["block"] == {"one": 1, "two": {"three": 0, "four": 4}}
    assert parameters["other"] == {"six": 6, "seven": 7}, "a block of the environment replaces the base's"


def test_paths_of_cohorts_begin_in_data_root(tmp_path: Path):
    cohorts = (
        "data_processing: { a: { reader: { folder: ms, file: t.csv } }, b: { reader: { folder: /x/y } }, c: 1 }\n"
    )
    study = {"parameters.yml": cohorts}
    assert files_of(tmp_path, study).parameters()["data_processing"] == {
        "a": {"reader": {"folder": f"{tmp_path}/data/01_raw/ms", "file": f"{tmp_path}/data/01_raw/t.csv"}},
        "b": {"reader": {"folder": "/x/y"}},
        "c": 1,
    }
    elsewhere = files_of(tmp_path, study, data_root="/scans").parameters()["data_processing"]
    assert elsewhere["a"]["reader"]["folder"] == "/scans/ms"


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (("block", "two", "three"), "--params"),
        (("block", "one"), "conf/base/parameters_a.yml"),
        (("block", "missing"), "conf/base/parameters_a.yml"),
        (("other", "six"), "conf/study/parameters.yml"),
        (("other", "five"), "conf/study/parameters.yml"),  # the environment's block has lost it
        (("listed", 1), "conf/study/parameters.yml"),
        (("nowhere",), ""),
    ],
)
def test_a_parameter_is_found_where_it_stands(tmp_path: Path, keys: tuple[str | int, ...], place: str):
    study = {"parameters.yml": "other: { six: 6 }\nlisted: [1, 2]\n"}
    assert files_of(tmp_path, study, block={"two": {"three": 0}}).place(keys) == place


def test_names_that_no_file_refers_to_or_that_belong_elsewhere(tmp_path: Path):
    study = {"globals.yml": "enviroment: study\n", "parameters.yml": "data_root: /x\noutput: y\n"}
    told = {problem.name: (problem.file, problem.text) for problem in files_of(tmp_path, study).find_misplaced()}
    assert told["enviroment"] == (
        "conf/study/globals.yml",
        "no file refers to this value of globals.yml; did you mean environment?",
    )
    assert told["data_root"] == ("conf/study/parameters.yml", "has no effect here; write it into globals.yml")
    assert told["output"][1] == "has no effect here; give it as --params output=..."
    assert len(told) == 3


def test_values_of_globals_yml_are_not_taken_from_elsewhere(tmp_path: Path):
    """Else a run would write into the folders of another environment, or on another target than its user means."""
    study = {"parameters.yml": "environment: study\n"}
    told = {(p.file, p.name, p.text) for p in files_of(tmp_path, study, environment="x").find_misplaced()}
    text = "has no effect here; write it into globals.yml"
    assert told == {("conf/study/parameters.yml", "environment", text), ("--params", "environment", text)}
    # base's own parameters_a.yml, which refers to globals.yml, is right; so is what --params may say.
    (tmp_path / "conf" / "study" / "parameters.yml").unlink()
    assert files_of(tmp_path, {}, data_root="/x", output="y").find_misplaced() == []


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    cohorts = "data_processing: { a: { reader: { folder: ms } }, b: { reader: { folder: ~/other } } }\n"
    parameters = files_of(tmp_path, {"parameters.yml": cohorts}, data_root="~/scans").parameters()
    folders = [cohort["reader"]["folder"] for cohort in parameters["data_processing"].values()]
    assert folders == ["/home/me/scans/ms", "/home/me/other"]


def test_what_the_command_may_say_is_no_unknown_parameter(tmp_path: Path):
    files = files_of(tmp_path, {}, output="z", data_root="/x", outptu="z")
    unknown = {p.name for p in find_problems(files.parameters(), files.no_parameters()) if "no such" in p.text}
    assert unknown == {"block", "other", "root", "outptu"}  # this test's own blocks, and the misspelt one


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"params.yml": "a: 1\n"}, "conf/study/params.yml is not read"),
        ({"globals.yaml": "a: 1\n"}, "conf/study/globals.yaml is not read"),
        ({"parameters.yml": "a: [1\n"}, "conf/study/parameters.yml cannot be read as YAML.*line 2"),
        ({"parameters.yml": "a: 1\nb: 2\na: 3\n"}, "conf/study/parameters.yml cannot be read.*duplicate key a"),
        ({"parameters.yml": "- a\n"}, "conf/study/parameters.yml should hold names with values"),
        ({"globals.yml": "data_root:\n"}, "data_root is None; it should be the folder"),
        ({"parameters.yml": "a: ${data_root}\n"}, "cannot be read: .*data_root"),
        ({"parameters.yml": "a: {b: 1}\n", "parameters_x.yml": "a: {b: 2}\n"}, "cannot be read: Duplicate keys"),
    ],
)
def test_files_that_cannot_be_read_as_meant(tmp_path: Path, study: dict[str, str], message: str):
    with pytest.raises(ParameterError, match=re.compile(message, re.DOTALL)):
        files_of(tmp_path, study).parameters()


def test_a_file_in_another_encoding_is_named(tmp_path: Path):
    files_of(tmp_path, {})
    (tmp_path / "conf" / "study" / "parameters_x.yml").write_bytes("a: Läsion\n".encode("latin-1"))
    with pytest.raises(ParameterError, match=r"conf/study/parameters_x.yml cannot be read as YAML in UTF-8"):
        files_of(tmp_path, {})


def test_an_environment_that_is_not_there(tmp_path: Path):
    write(tmp_path / "conf" / "base", BASE)
    write(tmp_path / "conf" / "study", {"globals.yml": ""})
    loader = OmegaConfigLoader(str(tmp_path / "conf"), env="stduy", **SETTINGS)
    with pytest.raises(ParameterError, match=r"no environment conf/stduy: did you mean study\?"):
        EnvironmentFiles(loader, SETTINGS, tmp_path)
