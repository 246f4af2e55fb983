"""From cohorts as people have them to volumes of one grid, and the splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dwp_kedro.cohorts.checks import check_splits, raise_problems
from dwp_kedro.cohorts.manifest import build_manifest
from dwp_kedro.cohorts.splits import make_splits
from dwp_kedro.cohorts.subjects import read_subject
from dwp_kedro.imaging.overlays import contact_sheet
from dwp_kedro.imaging.preprocessing import preprocess_subject
from dwp_kedro.imaging.volume import Volume
from dwp_kedro.parameters import CohortParameters, GridParameters
from dwp_kedro.pipelines.volumes import Volumes, image_id, label_id
from dwp_kedro.progress import report_progress, track

_MOST_SHOWN = 96  # subjects on a contact sheet


def read_cohort(cohort: CohortParameters) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List a cohort's subjects with what their files hold, and everything that is wrong with them."""
    return build_manifest(cohort)


def collect_problems(
    source_problems: pd.DataFrame,
    target_problems: pd.DataFrame,
    target_manifest: pd.DataFrame,
    grid: GridParameters,
    target: CohortParameters,
) -> pd.DataFrame:
    """Put the problems of both cohorts, and of the requested splits, into one table."""
    split_problems = check_splits(target_manifest, grid, target.name)
    return pd.concat([source_problems, target_problems, split_problems], ignore_index=True)


def preprocess_cohort(
    manifest: pd.DataFrame, problems: pd.DataFrame, cohort: CohortParameters
) -> tuple[dict[str, Callable[[], Volume]], pd.DataFrame]:
    """Bring every subject to the network's grid; stop before that if there are problems.

    The volumes are computed one subject at a time, while they are saved; the table of subjects is saved after
    them, and so says that they are whole.
    """
    raise_problems(problems)
    partitions: dict[str, Callable[[], Volume]] = {}
    for index, row in enumerate(manifest.to_dict("records")):
        subject = _LazySubject(row, cohort, index, len(manifest))
        for channel in range(len(row["images"].split("|"))):
            partitions[image_id(row["subject"], channel)] = subject.image(channel)
        partitions[label_id(row["subject"])] = subject.label
    subjects = manifest[["subject", "group", "fingerprint"]]
    return partitions, subjects.assign(channels=manifest["images"].str.count(r"\|") + 1)


def draw_cohort(volumes: Volumes, subjects: pd.DataFrame) -> Figure:
    """Show a slice of every preprocessed subject with its label outlined: the look that finds a wrong mask."""
    shown = sorted(subjects["subject"])[:_MOST_SHOWN]
    pairs = {name: (volumes[image_id(name, 0)](), volumes[label_id(name)]()) for name in track(shown, "drawing")}
    return contact_sheet(pairs)


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
            return self._images[channel]

        return load

    def label(self) -> Volume:
        label = self._label
        assert label is not None, "a subject's images are saved before its label"
        self._images, self._label = [], None
        report_progress(f"preprocessing {self._cohort.name}", self._index + 1, self._total)
        return label
