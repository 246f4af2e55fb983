"""From cohorts as people have them to volumes of one grid, and the splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dwp_kedro.cohorts import overview
from dwp_kedro.cohorts.checks import Problem, find_overlap, problems_table, raise_problems
from dwp_kedro.cohorts.manifest import build_manifest
from dwp_kedro.cohorts.splits import check_splits, make_splits
from dwp_kedro.cohorts.subjects import present_classes, read_subject
from dwp_kedro.imaging.overlays import contact_sheet
from dwp_kedro.imaging.preprocessing import preprocess_subject
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.lineage.declare import depends_on, reads_files
from dwp_kedro.parameters import CohortParameters, GridParameters
from dwp_kedro.pipelines.data_processing.raw_files import raw_files
from dwp_kedro.pipelines.volumes import Volumes, image_id, label_id, load_label
from dwp_kedro.progress import report_progress, track

_FEW, _MOST_SHOWN = 96, 240  # subjects on a contact sheet


@reads_files(raw_files)
def read_cohort(cohort: CohortParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List a cohort's subjects with what their files hold, and everything that is wrong with them."""
    return build_manifest(cohort)


def describe_cohort(manifest: pd.DataFrame, cohort: CohortParameters) -> pd.DataFrame:
    """Sum a manifest up, with what deserves a second look."""
    return overview.describe_cohort(manifest, cohort)


def collect_problems(
    target_problems: pd.DataFrame,
    target_manifest: pd.DataFrame,
    grid: GridParameters,
    target: CohortParameters,
    starts_from_source: bool,
    source_problems: pd.DataFrame | None = None,
    source_manifest: pd.DataFrame | None = None,
    source: CohortParameters | None = None,
) -> pd.DataFrame:
    """Put the problems of both cohorts, of scans in both, and of the requested splits into one table.

    ``starts_from_source`` says whether a method starts from a source network, which must then fit the target's
    channels and classes. There is no source cohort where a received prior is used.
    """
    tables = [target_problems, check_splits(target_manifest, grid, target.name)]
    if source_problems is not None:
        tables.insert(0, source_problems)
    if source_manifest is not None:
        tables.append(problems_table(target.name, find_overlap(source_manifest, target_manifest)))
    if starts_from_source and source is not None and source_manifest is not None:
        misfits = _find_misfits(source, source_manifest, target, target_manifest)
        tables.append(problems_table(target.name, misfits))
    return pd.concat(tables, ignore_index=True)


def _find_misfits(
    source: CohortParameters,
    source_manifest: pd.DataFrame,
    target: CohortParameters,
    target_manifest: pd.DataFrame,
) -> list[Problem]:
    """Say where a source network does not fit the target."""
    sizes = [
        (
            {_count_channels(row) for row in manifest.to_dict("records")},
            len(cohort.class_names),
        )
        for cohort, manifest in ((source, source_manifest), (target, target_manifest))
    ]
    if sizes[0] == sizes[1] or not all(channels for channels, _ in sizes):
        return []
    words = [
        f"{name} has {sorted(c)} channels, {n} classes"
        for name, (c, n) in zip(("source", "target"), sizes, strict=True)
    ]
    mend = "Give both the same, or leave methods that start from a source network out of grid.methods."
    return [Problem("", f"a source network does not fit: {'; '.join(words)}.", "", mend)]


def _count_channels(row: Mapping[str, Any]) -> int:
    return str(row["images"]).count("|") + 1


@depends_on(problems=None)  # with any, nothing comes of it
def preprocess_cohort(
    manifest: pd.DataFrame, problems: pd.DataFrame, cohort: CohortParameters
) -> tuple[dict[str, Callable[[], Volume]], pd.DataFrame]:
    """Bring every subject to the network's grid; stop before that if there are problems.

    The volumes are computed one subject at a time, while they are saved; the list of subjects is saved after
    them, and so says that they are whole.
    """
    raise_problems(problems)
    partitions: dict[str, Callable[[], Volume]] = {}
    rows = sorted(manifest.to_dict("records"), key=lambda row: label_id(row["subject"]))
    for index, row in enumerate(rows):
        subject = _LazySubject(row, cohort, index, len(rows))
        for channel in range(_count_channels(row)):
            partitions[image_id(row["subject"], channel)] = subject.image(channel)
        partitions[label_id(row["subject"])] = subject.label
    return partitions, manifest[["subject"]]


def describe_volumes(
    volumes: Volumes, preprocessed: pd.DataFrame, manifest: pd.DataFrame, cohort: CohortParameters
) -> pd.DataFrame:
    """List the preprocessed subjects, and refuse those of whom the network's grid lost a class."""
    rows = manifest.set_index("subject", drop=False).loc[preprocessed["subject"]].to_dict("records")
    subjects, problems = [], []
    for row in track(rows, f"checking {cohort.name}"):
        label = load_label(volumes, row["subject"])
        counts = [int((label == value).sum()) for value in range(1, len(cohort.class_names) + 1)]
        lost = [
            name for name, count in zip(present_classes(row, cohort), counts, strict=True) if name and not count
        ]
        if lost:
            problems.append(
                Problem(
                    row["subject"],
                    f"nothing of {', '.join(lost)} is left on the network's grid.",
                    row["label"],
                    "Give preprocessing a larger grid or a smaller spacing, or exclude the subject.",
                )
            )
        facts = {name: row[name] for name in ("subject", "group", "fingerprint")}
        subjects.append({**facts, "channels": _count_channels(row), "label_voxels": sum(counts)})
    raise_problems(problems_table(cohort.name, problems))
    return pd.DataFrame(subjects)


def draw_cohort(volumes: Volumes, subjects: pd.DataFrame, cohort: CohortParameters) -> Figure:
    """Show a slice of every preprocessed subject with its label outlined: the look that finds a wrong mask."""
    names = sorted(subjects["subject"])[:_MOST_SHOWN]
    pairs = (
        (name, volumes[image_id(name, 0)](), volumes[label_id(name)]())
        for name in track(names, f"drawing {cohort.name}")
    )
    shown = (
        f"{len(names)} subjects" if len(names) == len(subjects) else f"{len(names)} of {len(subjects)} subjects"
    )
    title = (
        f"{cohort.name}, {shown} as the networks see them: the axial slice with most of the label, which is "
        "outlined; the patient's right is on the left"
    )
    return contact_sheet(pairs, len(names), title=title, columns=8 if len(names) <= _FEW else 12)


@depends_on(grid=lambda grid: [grid.most_splits, grid.n_test, grid.test_set, grid.set_aside, grid.split_seed])
def split_subjects(subjects: pd.DataFrame, grid: GridParameters) -> pd.DataFrame:
    """Draw every split's test set and training order, by subject."""
    return make_splits(subjects["subject"].tolist(), grid)


class _LazySubject:
    """Preprocesses a subject at its first channel and gives its memory back at its label."""

    def __init__(self, row: dict[str, Any], cohort: CohortParameters, index: int, total: int) -> None:
        self._row, self._cohort, self._index, self._total = row, cohort, index, total
        self._images: list[Volume] = []
        self._label: Volume | None = None

    def image(self, channel: int) -> Callable[[], Volume]:
        def load() -> Volume:
            if self._label is None:
                images, label = read_subject(self._row, self._cohort)
                self._images, self._label = preprocess_subject(images, label, self._cohort)
                report_progress(f"preprocessing {self._cohort.name}", self._index + 1, self._total)
            return self._images[channel]

        return load

    def label(self) -> Volume:
        label = self._label
        assert label is not None, "a subject's images are saved before its label"
        self._images, self._label = [], None
        return label
