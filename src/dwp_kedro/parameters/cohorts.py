"""Sets of labelled scans: how they are read, and brought to a network's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dwp_kedro.parameters.base import NO_EFFECT_ON_RESULTS, Grid, Parameters, Spacing

_BEGINS = "A relative path begins in data_root."


class BratsReader(Parameters):
    """BraTS folders of any year: ``<case>/<case>_t2.nii.gz``, ``<case>-t2w.nii.gz`` and so on."""

    layout: Literal["brats"] = Field(description="How the folders and files are laid out.")
    folder: Path = Field(
        description=f"Folder of one folder per subject, or of HGG/ and LGG/ with them. {_BEGINS}",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    channels: Annotated[list[str], Field(min_length=1)] = Field(
        description="Modalities by name, one per input channel: t1, t1ce, t2, flair."
    )


class DecathlonReader(Parameters):
    """Medical Segmentation Decathlon: ``dataset.json``, ``imagesTr/``, ``labelsTr/``."""

    layout: Literal["decathlon"] = Field(description="How the folders and files are laid out.")
    folder: Path = Field(
        description=f"Task folder, the one with dataset.json. {_BEGINS}",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    channels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        default=[0], description="Indices into the fourth axis of the images; [0] for 3D images."
    )


class SubjectFoldersReader(Parameters):
    """One folder per subject; file names given by patterns in which ``{subject}`` is the folder's name."""

    layout: Literal["subject_folders"] = Field(description="How the folders and files are laid out.")
    folder: Path = Field(
        description=f"Folder that holds one folder per subject. {_BEGINS}",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    channels: Annotated[list[str], Field(min_length=1)] = Field(
        description="One file pattern per input channel, for example '{subject}_flair.nii.gz' or '*flair*'."
    )
    label: str = Field(description="File pattern of the label map.")


class CsvReader(Parameters):
    """A CSV manifest with the columns subject, image (or image_0, image_1, …), label and optionally group."""

    layout: Literal["csv"] = Field(description="How the folders and files are laid out.")
    file: Path = Field(
        description=f"The table; columns parted by commas or semicolons. {_BEGINS}",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    folder: Path = Field(
        description=f"Root of the paths in the file; none of them may leave it. {_BEGINS}",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )


class PhantomReader(Parameters):
    """Made-up scans, written once to ``folder`` (one folder per subject) and then read like real ones."""

    layout: Literal["phantom"] = Field(description="Made-up scans; needs no data.")
    folder: Path = Field(
        description=f"Where they are written, and kept. {_BEGINS}",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    disease: Literal["plaques", "tumour"] = Field(description="What is segmented in them.")
    n_subjects: Annotated[int, Field(ge=2)] = Field(description="How many subjects are made up.")
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="The same seed makes the same scans.")


Reader = Annotated[
    BratsReader | DecathlonReader | SubjectFoldersReader | CsvReader | PhantomReader,
    Field(discriminator="layout"),
]


class PreprocessingParameters(Parameters):
    """From a scan on its own grid to a network's input.

    Order: clipping to ``window``, canonical orientation (RAS), resampling to ``spacing``, foreground crop, fit to
    ``grid``, intensity normalisation (zero mean, unit variance over the foreground).

    In CT, foreground means the body: −500 Hounsfield units lie between air and fat, so scans are normalised by
    what the body holds, however much air is around it, and ``crop_foreground`` cuts that air away. Lungs and air
    then become 0, as outside a brain. With null all voxels count, and air stays darker than fat.
    """

    window: tuple[float, float] | None = Field(
        default=None,
        description="Intensities are clipped to it, [low, high] in the scan's own units (CT: Hounsfield units); "
        "null: not clipped.",
    )
    spacing: Spacing | None = Field(
        default=None, description="Resample to this voxel size, [x, y, z] in mm; null: leave."
    )
    crop_foreground: bool = Field(default=False, description="Cut away the margin without foreground.")
    foreground_threshold: float | None = Field(
        default=0.0,
        description="Voxels above it, in the scan's own intensity units, are foreground; null: all voxels.",
    )
    grid: Grid | None = Field(
        description="Size of the network's input, [x, y, z] in voxels; multiples of 8, at least 16. null: every "
        "volume keeps its own size, and trainings take patches of it."
    )
    fit: Literal["pad_crop", "resample"] = Field(
        default="pad_crop",
        description="Reach the grid by centred padding and cropping, or by resampling straight to it.",
    )

    @model_validator(mode="after")
    def _steps_agree(self) -> PreprocessingParameters:
        if self.grid is None and self.fit == "resample":
            raise ValueError("fit: resample needs a grid to resample to; set grid, or leave fit out")
        if self.window is None:
            return self
        low, high = self.window
        if low >= high:
            raise ValueError(f"window: {low:g} is not below {high:g}; give the lower intensity first")
        if "foreground_threshold" not in self.model_fields_set:
            raise ValueError(
                "foreground_threshold: say with a window what foreground is, for CT −500 (the body) or null (all "
                "voxels); the default, 0, would leave out fat"
            )
        if self.foreground_threshold is not None and self.foreground_threshold >= high:
            raise ValueError(
                f"foreground_threshold: {self.foreground_threshold:g} is not below the window's upper end, "
                f"{high:g}, to which all foreground would be clipped; lower it"
            )
        return self


class CohortParameters(Parameters):
    """One set of labelled scans."""

    name: Annotated[str, Field(min_length=1)] = Field(description="In figures, messages and on a prior's card.")
    description: str = Field(
        description="In words, as it may stand on a prior's card; no subject, no path.",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    licence: str = Field(
        default="unknown",
        description="Of the scans, as it stands on a prior's card.",
        json_schema_extra=NO_EFFECT_ON_RESULTS,
    )
    reader: Reader = Field(
        description="Where the files lie; layouts are brats, decathlon, subject_folders, csv and phantom."
    )
    spacing: Literal["header", "unknown"] | Spacing = Field(
        default="header",
        description="Where the voxel size comes from: the header, nowhere (distances and volumes are then in "
        "voxels), or three numbers in mm, along the file's own axes, that replace the header's.",
    )
    labels: Literal["above_zero"] | int | list[int] | dict[str, list[int]] = Field(
        default="above_zero",
        description="Foreground: everything above 0, one value, a set, or classes by name, each a set.",
    )
    exclude: list[str] = Field(
        default=[], description="Subjects left out by name, for example those with unusable files."
    )
    preprocessing: PreprocessingParameters = Field(description="From a scan to the network's input.")

    @model_validator(mode="after")
    def _classes_are_disjoint(self) -> CohortParameters:
        if self.labels == "above_zero":
            return self
        classes = self.labels if isinstance(self.labels, dict) else {"": self.labels}
        members = [{values} if isinstance(values, int) else set(values) for values in classes.values()]
        if not members or not all(members):
            raise ValueError("labels: a class without label values; name its values, or write above_zero")
        values = [value for some in members for value in some]
        if 0 in values:
            raise ValueError("labels: 0 is the background; leave it out")
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"labels: the values {repeated} belong to several classes; give each to one")
        return self

    @property
    def class_names(self) -> list[str]:
        """Names of the foreground classes, in the order of their label values 1, 2, …."""
        return list(self.labels) if isinstance(self.labels, dict) else ["foreground"]
