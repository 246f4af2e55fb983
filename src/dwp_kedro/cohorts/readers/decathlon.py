"""Reader of Medical Segmentation Decathlon task folders."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import Any

from dwp_kedro.cohorts.checks import CohortError, name_some
from dwp_kedro.cohorts.readers.subject_files import SubjectFiles, require_folder
from dwp_kedro.parameters import DecathlonReader


def read_decathlon(reader: DecathlonReader) -> list[SubjectFiles]:
    """List the ``training`` subjects of ``dataset.json``; a subject is named by its image file.

    Raises:
        CohortError: The folder or ``dataset.json`` is missing or not as the Decathlon writes it, or a
            channel is not among its modalities.

    """
    require_folder(reader.folder, "the task's folder (dataset.json, imagesTr/, labelsTr/)")
    file = reader.folder / "dataset.json"
    description = _load(file)
    n_modalities = len(description["modality"])
    if max(reader.channels) >= n_modalities:
        names = name_some([repr(name) for name in description["modality"].values()])
        raise CohortError(
            f"{file} names {n_modalities} modalities: {names}. Channels start at 0; "
            f"{max(reader.channels)} is too high."
        )
    subjects = []
    for entry in description["training"]:
        image, label = (posixpath.normpath(entry[key]) for key in ("image", "label"))
        # Images of several modalities are 4D, those of one are 3D.
        images = (image,) if n_modalities == 1 else tuple(f"{image}#{channel}" for channel in reader.channels)
        name = posixpath.basename(image).removesuffix(".gz").removesuffix(".nii")
        subjects.append(SubjectFiles(name, "", images, label))
    return subjects


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CohortError(f"{file} is missing. A Decathlon task folder has dataset.json, imagesTr/ and labelsTr/.")
    try:
        description = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # the latter from brackets in brackets in …
        raise CohortError(f"{file} is not valid JSON ({error}). Unpack the task's archive again.") from error
    entries = description.get("training") if isinstance(description, dict) else None
    if (
        not isinstance(entries, list)
        or not all(
            isinstance(entry, dict) and isinstance(entry.get("image"), str) and isinstance(entry.get("label"), str)
            for entry in entries
        )
        or not isinstance(description.get("modality"), dict)
        or not description["modality"]
    ):
        raise CohortError(
            f"{file} is not a Decathlon description: it needs 'modality' (index: name) and 'training', a "
            "list of {'image': path, 'label': path}. For other layouts use subject_folders or csv."
        )
    return description
