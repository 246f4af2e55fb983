"""Reader of BraTS folders, 2013 to 2023.

Known names: ``VSD.Brain.XX.O.MR_T1c.54514.nii`` and ``VSD.Brain_3more.XX.O.OT.54517.nii``, in folders of
their own (2013 to 2016; the originals are .mha and must be converted), ``Brats18_TCIA01_1_t1ce.nii.gz`` (2017
to 2021), ``BraTS-GLI-00000-000-t1c.nii.gz`` (2023). In all of them the last word of the name is the modality.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.cohorts.readers.subject_files import (
    NIFTI_SUFFIXES,
    SubjectFiles,
    choose_one,
    list_files,
    list_folders,
    require_folder,
)
from dwp_kedro.parameters import BratsReader

MODALITIES = {
    "t1": {"t1", "t1n"},
    "t1ce": {"t1ce", "t1c", "t1gd"},
    "t2": {"t2", "t2w"},
    "flair": {"flair", "t2f", "fla"},
}
# "segm": the one label file of BraTS 2020 that goes by another name (BraTS20_Training_355).
LABEL_WORDS = {"seg", "ot", "segm"}
GROUPS = {"hgg": "HGG", "hg": "HGG", "lgg": "LGG", "lg": "LGG"}


def read_brats(reader: BratsReader) -> list[SubjectFiles]:
    """List the subjects of a BraTS folder; HGG and LGG subfolders become the group.

    A case folder that is there in both groups gives two subjects, named ``<group>_<case>``.

    Raises:
        CohortError: The folder is missing, or a channel is no BraTS modality.

    """
    require_folder(reader.folder, "the BraTS training set (a folder per subject, or HGG/ and LGG/ of them)")
    words = {channel: _words_of_modality(channel) for channel in reader.channels}
    cases: list[tuple[str, Path]] = []
    for folder in list_folders(reader.folder):
        group = GROUPS.get(folder.name.lower())
        cases += [("", folder)] if group is None else [(group, case) for case in list_folders(folder)]
    occurrences = Counter(case.name for _, case in cases)
    subjects = []
    for group, case in cases:
        name = f"{group}_{case.name}" if occurrences[case.name] > 1 else case.name
        subjects.append(_read_case(reader.folder, name, group, case, words))
    return subjects


def last_word(name: str) -> str:
    """Return the word of a BraTS file name that says what it shows, in lower case.

    >>> last_word("VSD.Brain.XX.O.MR_T2.54515.nii.gz"), last_word("BraTS-GLI-00000-000-t2w.nii.gz")
    ('t2', 't2w')
    """
    stem = re.sub(r"(\.nii|\.nii\.gz|\.mha)$", "", name.lower())
    return re.split(r"[._-]", re.sub(r"\.\d+$", "", stem))[-1]


def _words_of_modality(channel: str) -> set[str]:
    for words in MODALITIES.values():
        if channel.lower() in words:
            return words
    raise CohortError(f"BraTS has no modality '{channel}'; channels may be {', '.join(MODALITIES)}.")


def _read_case(root: Path, subject: str, group: str, case: Path, words: dict[str, set[str]]) -> SubjectFiles:
    files = list_files(case, NIFTI_SUFFIXES)
    mend = f"Add it to {case.relative_to(root).as_posix()}, or exclude the subject."
    if not files and list_files(case, (".mha",)):
        mend = "The .mha files of 2013 to 2016 must be converted to .nii.gz, under the same names."
    found, problems = [], []
    for kind, endings in (*words.items(), ("label", LABEL_WORDS)):
        matches = [path.relative_to(root).as_posix() for path in files if last_word(path.name) in endings]
        wanted = f"{kind} file (its name ends in {' or '.join(sorted(endings))})"
        path, missing = choose_one(subject, matches, wanted, mend)
        found.append(path)
        problems += missing
    *images, label = found
    return SubjectFiles(subject, group, tuple(filter(None, images)), label, tuple(problems))
