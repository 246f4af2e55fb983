"""A cohort on half a page: ranges of what its subjects have, and what deserves a second look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from dwp_kedro.cohorts.checks import name_some
from dwp_kedro.parameters import CohortParameters

OVERVIEW_COLUMNS = ["cohort", "fact", "value"]
LOOK = "look at"
"""Facts of this name are no problems, but often the trace of one."""

_THIN = 0.25  # a volume so much lower than wide, of cubic voxels, has slices thicker than its header says
_TINY = 0.01  # of the median label volume
_LARGE = 0.5  # share of the volume


def describe_cohort(manifest: pd.DataFrame, cohort: CohortParameters) -> pd.DataFrame:
    """Return the overview of a manifest (see ``build_manifest``) as a table with the columns cohort, fact, value.

    Spacing is in mm, label volume in ml, or in voxels where the spacing is unknown.
    """
    facts = [("subjects", _subjects(manifest, cohort))]
    if len(manifest):
        facts += [
            ("images per subject", _counts(manifest["images"].str.count(r"\|") + 1)),
            ("shape, voxels", _sides(manifest["shape"])),
            ("spacing, mm", _sides(manifest["spacing"])),
            ("orientation", _counts(manifest["orientation"])),
            ("intensities", _intensities(manifest)),
            ("label values", _label_values(manifest, cohort)),
            (f"label volume, {'voxels' if cohort.spacing == 'unknown' else 'ml'}", _volumes(manifest, cohort)),
        ]
    facts += [(LOOK, remark) for remark in find_remarks(manifest, cohort)]
    return pd.DataFrame([(cohort.name, *fact) for fact in facts], columns=OVERVIEW_COLUMNS)


def find_remarks(manifest: pd.DataFrame, cohort: CohortParameters) -> list[str]:
    """Say what is unusual though no error: unused label values, thick slices, lost intensities, odd masks."""
    if manifest.empty:
        return []
    remarks = [*_unused_values(manifest, cohort), *_thick_slices(manifest, cohort)]
    threshold = cohort.preprocessing.foreground_threshold
    below = manifest["intensities"].str.split(" ").str[0].astype(float) < 0
    if threshold is not None and threshold >= 0 and below.any():
        remarks.append(
            f"{_of(below)} have intensities below 0, which is background by preprocessing.foreground_threshold: "
            f"{threshold:g}; write null there if they mean something (CT, normalised scans)."
        )
    voxels = manifest["label_voxels"]
    tiny, large = voxels < _TINY * voxels.median(), voxels > _LARGE * _n_voxels(manifest)
    if tiny.any():
        remarks.append(
            f"{_of(tiny)} have less than {_TINY:.0%} of the median label volume: {_who(manifest, tiny)}."
        )
    if large.any():
        remarks.append(
            f"in {_of(large)} the label fills more than half of the volume; is background labelled? "
            f"{_who(manifest, large)}."
        )
    return remarks


def _unused_values(manifest: pd.DataFrame, cohort: CohortParameters) -> list[str]:
    if cohort.labels == "above_zero":
        return []
    listed = cohort.labels.values() if isinstance(cohort.labels, dict) else [cohort.labels]
    used = {value for members in listed for value in np.atleast_1d(members)}
    found = {value for values in manifest["label_values"] for value in map(float, values.split())}
    remarks = []
    if unused := sorted(found - used - {0}):
        remarks.append(f"label values {_join(unused)} are in no class and count as background.")
    if absent := sorted(used - found):
        remarks.append(f"no subject has the label values {_join(absent)}.")
    return remarks


def _thick_slices(manifest: pd.DataFrame, cohort: CohortParameters) -> list[str]:
    if cohort.spacing != "header":
        return []
    spacings = _numbers(manifest["spacing"])
    extents = _numbers(manifest["shape"]) * spacings
    cubic = spacings.max(axis=1) < 1.01 * spacings.min(axis=1)
    thin = cubic & (extents.min(axis=1) < _THIN * extents.max(axis=1))
    if not thin.any():
        return []
    lowest = extents[thin][extents[thin].min(axis=1).argmin()]
    example = "x".join(f"{side:.0f}" for side in lowest)
    return [
        f"in {_of(thin)} the header says cubic voxels; a volume would then measure {example} mm. If slices are "
        "thicker, write the true voxel size into spacing, or spacing: unknown."
    ]


def _subjects(manifest: pd.DataFrame, cohort: CohortParameters) -> str:
    groups = _counts(manifest["group"]) if (manifest["group"] != "").any() else ""
    excluded = f"{len(cohort.exclude)} excluded" if cohort.exclude else ""
    return "; ".join(filter(None, [str(len(manifest)), groups, excluded]))


def _label_values(manifest: pd.DataFrame, cohort: CohortParameters) -> str:
    found = Counter(value for values in manifest["label_values"] for value in values.split())
    parts = [
        value if count == len(manifest) else f"{value} (in {count})"
        for value, count in sorted(found.items(), key=lambda item: float(item[0]))
    ]
    labels = cohort.labels
    named = (
        {"foreground": "above 0" if labels == "above_zero" else labels} if not isinstance(labels, dict) else labels
    )
    classes = [f"{name}: {_join(m) if isinstance(m, list) else m}" for name, m in named.items()]
    return f"{', '.join(parts)}; {'; '.join(classes)}"


def _volumes(manifest: pd.DataFrame, cohort: CohortParameters) -> str:
    volumes = manifest["label_voxels" if cohort.spacing == "unknown" else "label_ml"].astype(float)
    least, most = (manifest["subject"][index] for index in (volumes.idxmin(), volumes.idxmax()))
    return (
        f"median {format_volume(volumes.median())}, from {format_volume(volumes.min())} ({least}) to "
        f"{format_volume(volumes.max())} ({most})"
    )


def format_volume(volume: float) -> str:
    """Write a volume with three digits, and all those before the point.

    >>> format_volume(0.0421), format_volume(1234.5)
    ('0.0421', '1234')
    """
    return f"{volume:.0f}" if volume >= 100 else f"{volume:.3g}"


def _intensities(manifest: pd.DataFrame) -> str:
    ends = manifest["intensities"].str.extract(r"^(\S+) to (\S+)$").astype(float)
    return f"{ends[0].min():g} to {ends[1].max():g}; highest of a subject, median {ends[1].median():g}"


def _sides(column: pd.Series) -> str:
    """Return the one triple that all have, or the ranges along each axis."""
    if column.nunique() == 1:
        return str(column.iloc[0])
    sides = _numbers(column)
    ends = zip(sides.min(axis=0), sides.max(axis=0), strict=True)
    ranges = [f"{low:g}" if low == high else f"{low:g}–{high:g}" for low, high in ends]
    return f"{' x '.join(ranges)} ({column.nunique()} different)"


def _numbers(column: pd.Series) -> np.ndarray:
    """Triples such as ``6x7x4`` as an array (N, 3)."""
    return np.array([[float(side) for side in value.split("x")] for value in column])


def _n_voxels(manifest: pd.DataFrame) -> pd.Series:
    return pd.Series(_numbers(manifest["shape"]).prod(axis=1), index=manifest.index)


def _counts(column: pd.Series) -> str:
    counts = column.astype(str).value_counts()
    return str(counts.index[0]) if len(counts) == 1 else ", ".join(f"{value} ({n})" for value, n in counts.items())


def _of(chosen: pd.Series | np.ndarray) -> str:
    return f"{int(chosen.sum())} of {len(chosen)} subjects"


def _who(manifest: pd.DataFrame, chosen: pd.Series) -> str:
    return name_some(manifest["subject"][chosen].tolist())


def _join(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
