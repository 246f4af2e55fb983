from __future__ import annotations

from pathlib import Path

import pytest

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.pipelines.new_scans import NewScan, NewScansError, list_new_scans


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def by_name(scans: list[NewScan]) -> dict[str, list[str]]:
    return {scan.name: [Path(image).name for image in scan.images] for scan in scans}


def test_every_file_of_a_folder_is_a_scan(tmp_path: Path):
    touch(
        tmp_path, "b.nii", "a.nii.gz", "C.NII.GZ", ".hidden.nii.gz", "._a.nii.gz", "notes.txt", "sub_0007.nii.gz"
    )
    (tmp_path / "deeper.nii.gz").mkdir()
    assert by_name(list_new_scans(tmp_path)) == {
        "C": ["C.NII.GZ"],
        "a": ["a.nii.gz"],
        "b": ["b.nii"],
        "sub_0007": ["sub_0007.nii.gz"],
    }


def test_channels_are_named_as_by_nnu_net(tmp_path: Path):
    touch(tmp_path, "x_0001.nii.gz", "x_0000.nii.gz", "x_0002.nii.gz", "y_0000.nii.gz", "z.nii.gz")
    scans = list_new_scans(tmp_path)
    assert by_name(scans) == {
        "x": ["x_0000.nii.gz", "x_0001.nii.gz", "x_0002.nii.gz"],
        "y": ["y_0000.nii.gz"],
        "z": ["z.nii.gz"],
    }
    assert not any(scan.problem for scan in scans)


@pytest.mark.parametrize("named", ["x_0000.nii.gz", "x_0001.nii.gz"])
def test_one_file_brings_the_other_channels_along(tmp_path: Path, named: str):
    touch(tmp_path, "x_0001.nii.gz", "x_0000.nii.gz", "other.nii.gz")
    assert by_name(list_new_scans(tmp_path / named)) == {"x": ["x_0000.nii.gz", "x_0001.nii.gz"]}


def test_a_gap_among_the_channels_is_a_problem_of_that_scan(tmp_path: Path):
    touch(tmp_path, "x_0000.nii.gz", "x_0002.nii.gz", "y.nii.gz")
    problems = {scan.name: scan.problem for scan in list_new_scans(tmp_path)}
    assert problems == {"x": "x_0001 is missing among its channels.", "y": ""}


def test_two_scans_of_one_name_are_both_a_problem(tmp_path: Path):
    touch(tmp_path, "a.nii", "a.nii.gz", "b.nii")
    assert [(s.name, "several scans" in s.problem) for s in list_new_scans(tmp_path)] == [
        ("a", True),
        ("a", True),
        ("b", False),
    ]


def test_a_link_to_nothing_is_a_problem_of_that_scan(tmp_path: Path):
    touch(tmp_path, "x_0000.nii.gz", "y.nii.gz")
    (tmp_path / "x_0001.nii.gz").symlink_to(tmp_path / "unmounted/x.nii.gz")
    (tmp_path / "z.nii.gz").symlink_to("y.nii.gz")
    problems = {scan.name: scan.problem for scan in list_new_scans(tmp_path)}
    assert problems.pop("x").startswith(
        f"{tmp_path}/x_0001.nii.gz is a link to {tmp_path}/unmounted/x.nii.gz, which is not there"
    )
    assert problems == {"y": "", "z": ""}


@pytest.mark.parametrize("file", ["brain.nii.gz", "brain.nii"])
def test_one_channel_of_a_4d_file_has_a_clean_name(tmp_path: Path, file: str):
    touch(tmp_path, file)
    scans = list_new_scans(tmp_path / f"{file}#3")
    assert scans == [NewScan(f"{file.split('.')[0]}_channel_3", (str(tmp_path / f"{file}#3"),))]


def test_predictions_in_the_same_folder_are_no_scans(tmp_path: Path):
    touch(tmp_path, "a.nii.gz", "a_mask.nii.gz", "a_probability.nii.gz", "a_uncertainty.nii.gz", "b_mask.nii.gz")
    assert set(by_name(list_new_scans(tmp_path))) == {
        "a", "a_mask", "a_probability", "a_uncertainty", "b_mask",
    }  # fmt: skip
    touch(tmp_path, "a_prediction.json")
    assert set(by_name(list_new_scans(tmp_path))) == {"a", "b_mask"}


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_names_scans_and_channels(tmp_path: Path, separator: str):
    lines = ["name,image_0,image_1", "p1,t1/a.nii.gz,t2/a.nii.gz", "p2,4d.nii.gz#0,4d.nii.gz#1"]
    table = tmp_path / "scans.csv"
    table.write_text("\n".join(lines).replace(",", separator))
    assert list_new_scans(table) == [
        NewScan("p1", (str(tmp_path / "t1/a.nii.gz"), str(tmp_path / "t2/a.nii.gz"))),
        NewScan("p2", (str(tmp_path / "4d.nii.gz#0"), str(tmp_path / "4d.nii.gz#1"))),
    ]


def test_bad_rows_of_a_table_are_problems_of_their_own(tmp_path: Path):
    table = tmp_path / "scans.csv"
    table.write_text("name,image\nok,a.nii\nout,../a.nii\nroot,/etc/a.nii\nempty,\n../up,a.nii\n\x1b[2J,a.nii\n")
    problems = {scan.name: scan.problem for scan in list_new_scans(table)}
    assert problems["ok"] == ""
    assert problems["out"] == "leaves the folder of scans.csv: ../a.nii."
    assert problems["root"] == "leaves the folder of scans.csv: /etc/a.nii."
    assert "line 5 of scans.csv names no file" in problems["empty"]
    assert "'../up' cannot be a file name" in problems["line 6"]
    assert r"'\x1b[2J' cannot be a file name" in problems["line 7"]


def test_what_is_no_scan_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "scan.mha")
    (tmp_path / "wrong.csv").write_text("subject,image\n")
    (tmp_path / "blank.csv").write_text("name,image\n")
    (tmp_path / "latin.csv").write_bytes("name,image\nJürgen,a.nii\n".encode("latin-1"))
    (tmp_path / "link.nii").symlink_to("away.nii")
    for name, error, message in (
        ("nowhere", NewScansError, "no such file or folder"),
        ("nowhere.nii.gz", NewScansError, "no such file or folder"),
        ("scan.mha", NewScansError, r"must end in \.nii, \.nii\.gz or \.csv"),
        ("empty", NewScansError, "holds no scan"),
        ("blank.csv", NewScansError, "holds no scan"),
        ("wrong.csv", NewScansError, "columns subject, image; it needs name"),
        ("nowhere.csv", NewScansError, "no such file or folder"),
        ("latin.csv", CohortError, "not a CSV table in UTF-8"),
        ("link.nii", NewScansError, "link.nii is a link to away.nii, which is not there"),
        ("scan.nii#1", NewScansError, "no such file or folder"),
    ):
        with pytest.raises(error, match=message):
            list_new_scans(tmp_path / name)
