from __future__ import annotations

import json
from pathlib import Path

import pytest

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.readers import SubjectFiles, list_subjects, reader_folder
from dwp_kedro.parameters import (
    BratsReader,
    CsvReader,
    DecathlonReader,
    PhantomReader,
    Reader,
    SubjectFoldersReader,
)


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def brats(folder: Path, *channels: str) -> list[SubjectFiles]:
    return list_subjects(BratsReader(layout="brats", folder=folder, channels=list(channels)))


CASES_BY_YEAR = {
    "2013": (
        "HG/0001",
        "VSD.Brain.XX.O.MR_T2/VSD.Brain.XX.O.MR_T2.684.nii",
        "VSD.Brain.XX.O.MR_T1c/VSD.Brain.XX.O.MR_T1c.686.nii",
        "VSD.Brain_3more.XX.XX.OT/VSD.Brain_3more.XX.XX.OT.6560.nii",
    ),
    "2015": (
        "HGG/brats_2013_pat0001_1",
        "VSD.Brain.XX.O.MR_T2.54515/VSD.Brain.XX.O.MR_T2.54515.nii.gz",
        "VSD.Brain.XX.O.MR_T1c.54514/VSD.Brain.XX.O.MR_T1c.54514.nii.gz",
        "VSD.Brain_3more.XX.O.OT.54517/VSD.Brain_3more.XX.O.OT.54517.nii.gz",
    ),
    "2018": (
        "HGG/Brats18_2013_2_1",
        "Brats18_2013_2_1_t2.nii.gz",
        "Brats18_2013_2_1_t1ce.nii.gz",
        "Brats18_2013_2_1_seg.nii.gz",
    ),
    "2020": (
        "BraTS20_Training_355",
        "BraTS20_Training_355_t2.nii",
        "BraTS20_Training_355_t1ce.nii",
        "W39_1998.09.19_Segm.nii",
    ),
    "2021": (
        "BraTS2021_01476",
        "BraTS2021_01476_t2.nii.gz",
        "BraTS2021_01476_t1ce.nii.gz",
        "BraTS2021_01476_seg.nii.gz",
    ),
    "2023": (
        "BraTS-GLI-00000-000",
        "BraTS-GLI-00000-000-t2w.nii.gz",
        "BraTS-GLI-00000-000-t1c.nii.gz",
        "BraTS-GLI-00000-000-seg.nii.gz",
    ),
}


@pytest.mark.parametrize("year", CASES_BY_YEAR)
def test_brats_finds_modalities_in_the_names_of_every_year(tmp_path: Path, year: str) -> None:
    case, *names = CASES_BY_YEAR[year]
    t2, t1ce, label = (f"{case}/{name}" for name in names)
    others = [t2.replace("T2", "T1").replace("t2w", "t1n").replace("_t2", "_t1")]
    others += [t2.replace("T2", "Flair").replace("t2w", "t2f").replace("_t2", "_flair")]
    touch(
        tmp_path,
        t2,
        t1ce,
        label,
        *others,
        f"{case}/._junk_t2.nii.gz",
        f"{case}/.DS_Store",
        "name_mapping.csv",
    )

    (files,) = brats(tmp_path, "t1ce", "t2")

    group = case.split("/")[0] if "/" in case else ""
    assert files == SubjectFiles(case.split("/")[-1], {"HG": "HGG"}.get(group, group), (t1ce, t2), label)
    assert [brats(tmp_path, name)[0].images for name in ("t1", "flair")] == [(other,) for other in others]


def test_brats_tells_cases_of_the_same_name_in_both_groups_apart(tmp_path: Path) -> None:
    for case in ("HGG/pat0001", "LGG/pat0001", "LGG/pat0002"):
        touch(tmp_path, f"{case}/a_t2.nii.gz", f"{case}/a_seg.nii.gz")
    found = [(files.subject, files.group) for files in brats(tmp_path, "t2")]
    assert found == [("HGG_pat0001", "HGG"), ("LGG_pat0001", "LGG"), ("pat0002", "LGG")]


def test_brats_problems_are_kept_per_subject(tmp_path: Path) -> None:
    touch(tmp_path, "a/a_t2.nii", "a/a_t2.nii.gz", "b/b_t2.nii", "b/b_seg.nii")
    touch(tmp_path, "c/VSD.T2.1/VSD.T2.1.mha")
    a, b, c = brats(tmp_path, "t2")
    assert [problem.problem[:30] for problem in a.problems] == [
        "2 files could be the t2 file (",
        "no label file (its name ends i",
    ]
    assert not b.problems
    assert all(".mha" in problem.mend for problem in c.problems)


def test_brats_refuses_unknown_modality(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="no modality 'pet'; channels may be t1, t1ce, t2, flair"):
        brats(tmp_path, "pet")


def write_decathlon(folder: Path, **changes: object) -> DecathlonReader:
    description: dict[str, object] = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "training": [{"image": "./imagesTr/b_2.nii.gz", "label": "./labelsTr/b_2.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(description | changes))
    return DecathlonReader(layout="decathlon", folder=folder, channels=[1, 0])


def test_decathlon_channels(tmp_path: Path) -> None:
    reader = write_decathlon(tmp_path)
    expected = ("imagesTr/b_2.nii.gz#1", "imagesTr/b_2.nii.gz#0")
    assert list_subjects(reader) == [SubjectFiles("b_2", "", expected, "labelsTr/b_2.nii.gz")]
    one = write_decathlon(tmp_path, modality={"0": "CT"}).model_copy(update={"channels": [0]})
    assert list_subjects(one)[0].images == ("imagesTr/b_2.nii.gz",)


@pytest.mark.parametrize(
    "changes", [{"training": 5}, {"training": ["a"]}, {"training": [{"image": 1}]}, {"modality": {}}]
)
def test_decathlon_refuses_other_dataset_json(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(CohortError, match=r"dataset\.json is not a Decathlon description"):
        list_subjects(write_decathlon(tmp_path, **changes))


def test_decathlon_refuses_broken_missing_and_short(tmp_path: Path) -> None:
    reader = write_decathlon(tmp_path, modality={"0": "CT"})
    with pytest.raises(CohortError, match="1 is too high"):
        list_subjects(reader)
    (tmp_path / "dataset.json").write_text('{"modality":')
    with pytest.raises(CohortError, match="not valid JSON"):
        list_subjects(reader)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(CohortError, match=r"dataset\.json is missing"):
        list_subjects(reader)


def test_subject_folders_fill_patterns(tmp_path: Path) -> None:
    touch(tmp_path, "p[1]/p[1]_flair.nii.gz", "p[1]/anat/x_t1.nii", "p[1]/p[1]_seg.nii.gz", "p[1]/._x_t1.nii")
    touch(
        tmp_path,
        "p2/p2_flair.nii.gz",
        "p2/anat/y_t1.nii",
        "p2/anat/z_t1.nii",
        "__MACOSX/p2/._p2_flair.nii.gz",
    )
    reader = SubjectFoldersReader(
        layout="subject_folders",
        folder=tmp_path,
        channels=["{subject}_flair.nii.gz", "**/*t1*"],
        label="{subject}_seg.*",
    )
    second, first = list_subjects(reader)
    assert first == SubjectFiles(
        "p[1]", "", ("p[1]/p[1]_flair.nii.gz", "p[1]/anat/x_t1.nii"), "p[1]/p[1]_seg.nii.gz"
    )
    assert [problem.problem for problem in second.problems] == [
        "2 files could be the file for the pattern '**/*t1*': p2/anat/y_t1.nii, p2/anat/z_t1.nii.",
        "no file for the pattern '{subject}_seg.*'.",
    ]


def csv(folder: Path, text: str) -> list[SubjectFiles]:
    (folder / "cohort.csv").write_text(text, encoding="utf-8")
    return list_subjects(CsvReader(layout="csv", file=folder / "cohort.csv", folder=folder))


def test_csv_comma_and_semicolon_with_byte_order_mark(tmp_path: Path) -> None:
    expected = [
        SubjectFiles("007", "site a", ("a/x.nii",), "a/y.nii"),
        SubjectFiles("8", "", ("b/x.nii",), "b/y.nii"),
    ]
    rows = ["subject,image,label,group", "8,./b/x.nii,b/y.nii,", "007, a/x.nii,a/y.nii,site a"]
    assert csv(tmp_path, "\n".join(rows)) == expected
    assert csv(tmp_path, "\ufeff" + "\r\n".join(rows).replace(",", ";")) == expected


def test_csv_orders_channels_by_number(tmp_path: Path) -> None:
    columns = [f"image_{number}" for number in (2, 10, 0, 1, 3, 4, 5, 6, 7, 8, 9)]
    (files,) = csv(tmp_path, f"subject,label,{','.join(columns)}\ns,l.nii,{','.join(columns)}\n")
    assert files.images == tuple(f"image_{number}" for number in range(11))


def test_csv_says_what_is_missing(tmp_path: Path) -> None:
    for header in ("subject,image", "image,label", "subject,label,image_1", "name\tmask"):
        with pytest.raises(CohortError, match="it needs subject, image"):
            csv(tmp_path, f"{header}\n")
    with pytest.raises(CohortError, match="not a CSV table"):
        csv(tmp_path, "")
    with pytest.raises(CohortError, match="holds no subject"):
        csv(tmp_path, "subject,image,label\n")
    (files,) = csv(tmp_path, "subject,image,label\ns,x.nii\n")
    assert [problem.problem for problem in files.problems] == ["a row has no label."]


def test_phantom_is_written_and_listed(tmp_path: Path) -> None:
    reader = PhantomReader(layout="phantom", folder=tmp_path / "new", disease="plaques", n_subjects=2)
    first, second = list_subjects(reader)
    assert (first.subject, second.subject) == ("plaques_000", "plaques_001")
    assert all((reader_folder(reader) / path).is_file() for path in (*first.images, second.label))


def test_missing_folder_says_what_to_put_where(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    readers: list[Reader] = [
        BratsReader(layout="brats", folder=folder, channels=["t2"]),
        DecathlonReader(layout="decathlon", folder=folder),
        SubjectFoldersReader(layout="subject_folders", folder=folder, channels=["a"], label="b"),
        CsvReader(layout="csv", folder=folder, file=folder / "a.csv"),
    ]
    for reader in readers:
        with pytest.raises(CohortError) as caught:
            list_subjects(reader)
        for part in (str(folder), "globals.yml", "DWP_DATA_ROOT", "--params data_root="):
            assert part in str(caught.value)


def test_real_sets_are_listed_whole(shared_data: Path) -> None:
    flair = SubjectFoldersReader(
        layout="subject_folders",
        folder=shared_data / "ms_ljubljana",
        channels=["{subject}_flair.nii.gz"],
        label="{subject}_seg.nii.gz",
    )
    readers: list[tuple[Reader, int]] = [
        (DecathlonReader(layout="decathlon", folder=shared_data / "Task04_Hippocampus"), 223),
        (BratsReader(layout="brats", folder=shared_data / "tcga_lgg", channels=["flair"]), 81),
        (BratsReader(layout="brats", folder=shared_data / "brats2021", channels=["t2"]), 6),
        (flair, 3),
    ]
    for reader, count in readers:
        subjects = list_subjects(reader)
        assert len(subjects) == count
        assert not any(files.problems for files in subjects)
        assert all((reader.folder / files.label).is_file() for files in subjects)
