"""Which scans are to be predicted: one file, a folder of them, or a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dwp_kedro.cohorts.checks import leaves_folder
from dwp_kedro.cohorts.readers.csv_table import find_image_columns, read_csv_table
from dwp_kedro.cohorts.readers.subject_files import NIFTI_SUFFIXES
from dwp_kedro.imaging.predicted_scan import RECORD_SUFFIX
from dwp_kedro.printable import is_printable

_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})")
_OF_4D = re.compile(r"(?P<file>.+\.nii(\.gz)?)#(?P<channel>\d+)")
_NO_FILE_NAME = re.compile(r'[/\\|:*?"<>]|^\.|^$')


class NewScansError(ValueError):
    """There is nothing to predict, or not from these files; the message says what to do."""


@dataclass(frozen=True)
class NewScan:
    """One scan that nobody has labelled."""

    name: str
    images: tuple[str, ...]
    """A file per channel; ``scan.nii.gz#2`` is channel 2 of a 4D file."""
    problem: str = ""
    """Why it cannot be predicted, if its files already tell."""


def list_new_scans(place: Path) -> list[NewScan]:
    """List the scans of a NIfTI file, of a folder of them, or of a CSV table, by name.

    In a folder, every ``.nii`` and ``.nii.gz`` is a scan, named like the file; but where there is a
    ``<name>_0000``, it and ``<name>_0001``, … are the channels of one scan, as nnU-Net names them. The same holds
    for one file. Folders within are not looked into, and predictions in it are passed over.

    A table has the columns name and image, or image_0, image_1, …; its paths are relative to its folder.
    ``scan.nii.gz#2`` is channel 2 of a 4D file, and called ``scan_channel_2``; in a table it has the row's name.

    Raises:
        NewScansError: the place does not exist, or holds no scan.
        CohortError: the table cannot be read.
    """
    of_4d = _OF_4D.fullmatch(place.name)
    if place.is_symlink() and not place.exists():
        raise NewScansError(f"images: {place} {_leads_nowhere(place)}.")
    if place.is_dir():
        scans = _group_channels(_nifti_files(place))
    elif place.is_file() and place.name.lower().endswith(".csv"):
        scans = _read_table(place)
    elif place.is_file() and place.name.lower().endswith(NIFTI_SUFFIXES):
        scans = [
            scan for scan in _group_channels(_nifti_files(place.parent)) if str(place) in scan.images
        ] or _group_channels([place])
    elif of_4d is not None and (place.parent / of_4d["file"]).is_file():
        scans = [NewScan(f"{_stem(Path(of_4d['file']))}_channel_{of_4d['channel']}", (str(place),))]
    else:
        mend = "it must end in .nii, .nii.gz or .csv" if place.is_file() else "there is no such file or folder"
        raise NewScansError(f"images: {place}: {mend}. A relative path starts in the project's folder.")
    if not scans:
        raise NewScansError(
            f"images: {place} holds no scan; in a folder, those are the files right in it that end in .nii or "
            ".nii.gz."
        )
    counts = Counter(scan.name for scan in scans)
    doubles = {name for name, count in counts.items() if count > 1}
    return sorted((_with_problem(scan, doubles) for scan in scans), key=lambda scan: scan.name)


def _with_problem(scan: NewScan, doubles: Container[str]) -> NewScan:
    """Add to a scan what its files' names tell against it."""
    if scan.name in doubles:
        return replace(scan, problem="several scans have this name; give each its own.")
    lost = [path for path in map(Path, scan.images) if path.is_symlink() and not path.exists()]
    if lost and not scan.problem:
        return replace(scan, problem=f"{lost[0]} {_leads_nowhere(lost[0])}.")
    return scan


def _leads_nowhere(link: Path) -> str:
    return f"is a link to {link.readlink()}, which is not there; bring that file back, or correct the link"


def _nifti_files(folder: Path) -> list[Path]:
    """Return the NIfTI files in a folder, without hidden ones and without what an earlier prediction wrote."""
    predicted = tuple(
        path.name.removesuffix(RECORD_SUFFIX) for path in folder.iterdir() if path.name.endswith(RECORD_SUFFIX)
    )
    written = {f"{name}_{kind}.nii.gz" for name in predicted for kind in ("mask", "probability", "uncertainty")}
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(NIFTI_SUFFIXES)
        and not path.name.startswith(".")
        and path.name not in written
        and not path.is_dir()  # A link to nothing is no file either, and must not be passed over.
    ]


def _stem(path: Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _group_channels(files: Iterable[Path]) -> list[NewScan]:
    files = list(files)
    stems = {_stem(path) for path in files}
    scans: list[NewScan] = []
    channels: dict[str, dict[int, Path]] = {}
    for path in files:
        match = _CHANNEL.fullmatch(_stem(path))
        if match is None or f"{match['name']}_0000" not in stems:
            scans.append(NewScan(_stem(path), (str(path),)))
            continue
        of_scan, channel = channels.setdefault(match["name"], {}), int(match["channel"])
        if channel in of_scan:
            scans.append(NewScan(match["name"], (str(path),)))  # a name taken twice, which is a problem of both
        of_scan[channel] = path
    for name, of_scan in channels.items():
        missing = sorted(set(range(max(of_scan) + 1)) - set(of_scan))
        problem = f"{name}_{missing[0]:04d} is missing among its channels." if missing else ""
        scans.append(NewScan(name, tuple(str(of_scan[channel]) for channel in sorted(of_scan)), problem))
    return scans


def _read_table(file: Path) -> list[NewScan]:
    table = read_csv_table(file)
    columns = find_image_columns(list(table.columns))
    if "name" not in table.columns or not columns:
        raise NewScansError(
            f"images: {file} has the columns {', '.join(table.columns)}; it needs name and image (or image_0, "
            "image_1, … without gaps). Columns are parted by , or ;"
        )
    scans = []
    for number, row in enumerate(table.to_dict("records"), start=2):
        name, paths = row["name"], [row[column] for column in columns]
        problem = next((f"leaves the folder of {file.name}: {path}." for path in paths if leaves_folder(path)), "")
        if not all(paths):
            problem = f"line {number} of {file.name} names no file in one of {', '.join(columns)}."
        if _NO_FILE_NAME.search(name) or not is_printable(name):
            name, problem = (
                f"line {number}",
                f"its name {name!r} cannot be a file name; use letters, digits, - and _.",
            )
        scans.append(NewScan(name, tuple(str(file.parent / path) for path in paths), problem))
    return scans
