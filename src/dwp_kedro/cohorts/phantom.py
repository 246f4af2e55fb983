"""Made-up head scans for demonstrations and tests; no result on them is evidence of anything.

Each subject is computed from (seed, disease, index) alone: an ellipsoidal head of nested tissues, warped by a
smooth random deformation, with a disease, a smooth multiplicative bias field, Rician noise, an intensity
scale of its own and a slightly tilted head position.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
from scipy.fft import irfftn, rfftn
from scipy.ndimage import fourier_gaussian, gaussian_filter

from dwp_kedro.atomic_write import atomic_file
from dwp_kedro.cohorts.checks import CohortError
from dwp_kedro.imaging.volume import Volume, write_volume
from dwp_kedro.parameters import PhantomReader
from dwp_kedro.progress import track

Disease = Literal["plaques", "tumour"]

HEAD_SEMI_AXES = np.array([76.0, 93.0, 80.0])
"""Of the scalp's ellipsoid, mm: left-right, back-front, down-up."""


@dataclass(frozen=True)
class _Protocol:
    """How a cohort was scanned. Axes are right, anterior, superior until ``orientation`` is applied."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]  # mm
    orientation: str
    slice_oversampling: int  # thin slices averaged into each kept one: thick slices blur, as real ones do
    tissues: dict[str, float]  # intensity relative to the brightest tissue, 1
    noise: float  # standard deviation in the same units


PROTOCOLS: dict[str, _Protocol] = {
    # FLAIR-like: fluid dark, plaques bright, and fat as bright as plaques.
    "plaques": _Protocol(
        shape=(40, 48, 20),
        spacing=(4.2, 4.2, 8.5),
        orientation="LPS",
        slice_oversampling=3,
        tissues={"scalp": 0.85, "skull": 0.08, "fluid": 0.16, "grey": 0.56, "white": 0.42, "disease": 0.87},
        noise=0.035,
    ),
    # T2-like: fluid brightest of all, white matter darker than grey.
    "tumour": _Protocol(
        shape=(38, 46, 40),
        spacing=(4.4, 4.5, 4.2),
        orientation="PIR",
        slice_oversampling=1,
        tissues={"scalp": 0.55, "skull": 0.06, "fluid": 1.00, "grey": 0.54, "white": 0.36, "disease": 0.84},
        noise=0.04,
    ),
}


def list_phantom(reader: PhantomReader) -> list[tuple[str, str, str]]:
    """Return (subject, image path, label path) of every subject, paths relative to the folder."""
    names = [f"{reader.disease}_{index:03d}" for index in range(reader.n_subjects)]
    return [(name, f"{name}/{name}_image.nii.gz", f"{name}/{name}_label.nii.gz") for name in names]


def write_phantom(reader: PhantomReader) -> None:
    """Write the phantom's subjects that are not there yet.

    Raises:
        CohortError: The folder holds a phantom of another disease or seed.

    """
    recipe = {"disease": reader.disease, "seed": reader.seed}
    recipe_file = reader.folder / "phantom.json"
    if recipe_file.is_file() and (present := json.loads(recipe_file.read_text())) != recipe:
        raise CohortError(
            f"{reader.folder} holds another phantom: {present}, not {recipe}. Delete it, or choose another folder."
        )
    absent = [
        (index, image, label)
        for index, (_, image, label) in enumerate(list_phantom(reader))
        if not ((reader.folder / image).is_file() and (reader.folder / label).is_file())
    ]
    if not absent:
        return
    with atomic_file(recipe_file) as temporary:
        temporary.write_text(json.dumps(recipe))
    for index, image_path, label_path in track(absent, f"Writing phantom scans ({reader.disease})"):
        image, label = make_phantom_subject(reader.disease, reader.seed, index)
        write_volume(image, reader.folder / image_path)
        write_volume(label, reader.folder / label_path)


def make_phantom_subject(disease: Disease, seed: int, index: int) -> tuple[Volume, Volume]:
    """Return image (int16) and label (uint8, 0 or 1) of one subject; same arguments, same scan."""
    protocol = PROTOCOLS[disease]
    rng = np.random.default_rng((seed, list(PROTOCOLS).index(disease), index))
    fine_spacing = np.array(protocol.spacing) / (1, 1, protocol.slice_oversampling)
    position = _voxel_positions(protocol, fine_spacing)
    head = _Head.draw(rng, position, fine_spacing)
    draw_disease = _draw_plaques if disease == "plaques" else _draw_tumour
    amount, mask = draw_disease(rng, head)

    intensity = np.zeros(head.radius.shape)
    contrast = {tissue: value * rng.uniform(0.94, 1.06) for tissue, value in protocol.tissues.items()}
    for tissue, where in head.tissues():
        intensity[where] = contrast[tissue]
    intensity += amount * (contrast["disease"] - intensity)
    # Texture, so that no tissue is one flat value.
    intensity *= 1 + 0.05 * head.smooth_noise(rng, 6.0)
    intensity = gaussian_filter(intensity, 2.0 / fine_spacing)
    intensity *= np.exp(0.10 * head.smooth_noise(rng, 70.0))

    intensity = _average_slices(intensity, protocol)
    real, imaginary = rng.normal(0.0, protocol.noise, (2, *intensity.shape))
    scan = np.hypot(intensity + real, imaginary) * rng.uniform(250, 1200)
    label = _average_slices(mask.astype(float), protocol) >= 0.5
    affine = _draw_affine(rng, protocol)
    return (
        _reorient(np.round(scan).astype(np.int16), affine, protocol.orientation),
        _reorient(label.astype(np.uint8), affine, protocol.orientation),
    )


@dataclass(frozen=True)
class _Head:
    """A warped head on the fine grid; all arrays have the fine grid's shape (i, j, k)."""

    position: np.ndarray  # (3, i, j, k), mm from the head's centre, after warping
    radius: np.ndarray  # 1 at the scalp
    cortex: np.ndarray  # folds of the cortex, in units of the radius
    spacing: np.ndarray  # mm

    @classmethod
    def draw(cls, rng: np.random.Generator, position: np.ndarray, spacing: np.ndarray) -> _Head:
        """Draw a head's size, shape and folds."""
        shape = position.shape[1:]
        size = HEAD_SEMI_AXES * rng.normal(1.0, 0.03, 3)
        warp = np.stack([3.5 * _smooth_noise(rng, shape, 32.0 / spacing) for _ in range(3)])
        warped = (position + warp) * _as_field(HEAD_SEMI_AXES / size)
        radius = np.linalg.norm(warped / _as_field(HEAD_SEMI_AXES), axis=0)
        cortex = 0.03 * _smooth_noise(rng, shape, 5.5 / spacing)
        return cls(warped, radius, cortex, spacing)

    def smooth_noise(self, rng: np.random.Generator, width: float) -> np.ndarray:
        """Return Gaussian noise of unit variance, correlated over ``width`` mm."""
        return _smooth_noise(rng, self.radius.shape, width / self.spacing)

    def distance_to(self, centre: np.ndarray, stretch: np.ndarray | float = 1.0) -> np.ndarray:
        """Return the distance of every voxel from ``centre``, mm, axes divided by ``stretch``."""
        offset = (self.position - _as_field(centre)) / _as_field(np.broadcast_to(stretch, 3))
        return np.linalg.norm(offset, axis=0)

    def ventricles(self) -> np.ndarray:
        """Return the distance from the lateral ventricles, 1 at their walls."""
        sides = [
            self.distance_to(np.array([side * 11.0, -2.0, 8.0]), np.array([7.0, 27.0, 11.0])) for side in (-1, 1)
        ]
        return np.minimum(*sides)

    def brain(self) -> np.ndarray:
        """Return where brain tissue is, ventricles left out."""
        return (self.radius + self.cortex < 0.80) & (self.ventricles() >= 1)

    def tissues(self) -> list[tuple[str, np.ndarray]]:
        """Return where each tissue is; a later one lies over an earlier one."""
        nuclei = [
            self.distance_to(np.array([side * 25.0, 2.0, -2.0]), np.array([8.0, 17.0, 12.0])) for side in (-1, 1)
        ]
        return [
            ("scalp", self.radius < 1.0),
            ("skull", self.radius < 0.93),
            ("fluid", self.radius < 0.86),
            ("grey", self.radius + self.cortex < 0.80),
            ("white", (self.radius + 2.5 * self.cortex < 0.69) & (np.minimum(*nuclei) >= 1)),
            ("fluid", self.ventricles() < 1),
        ]


def _draw_plaques(rng: np.random.Generator, head: _Head) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of plaque per voxel and its mask: 8 to 25 blobs, most around the ventricles."""
    ventricles = head.ventricles()
    inside = head.brain() & (head.radius < 0.66)
    closeness = np.exp(-(((ventricles - 1.3) / 0.7) ** 2)) + 0.06
    weights = np.where(inside, closeness, 0.0).ravel()
    n_plaques = rng.integers(8, 26)
    centres = rng.choice(weights.size, n_plaques, replace=False, p=weights / weights.sum())
    edge = np.full(head.radius.shape, -np.inf)
    roughness = 1.2 * head.smooth_noise(rng, 5.0)
    for centre in centres:
        at = np.unravel_index(centre, head.radius.shape)
        size = np.clip(rng.lognormal(np.log(9.5), 0.3), 7.0, 18.0)
        distance = head.distance_to(head.position[(slice(None), *at)], rng.uniform(0.75, 1.3, 3))
        edge = np.maximum(edge, size - distance + roughness)
    mask = (edge > 0) & head.brain()
    return mask * np.clip(0.7 + edge / 6.0, 0, 1), mask


def _draw_tumour(rng: np.random.Generator, head: _Head) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of tumour per voxel and its mask: one irregular core, a rim that fades out."""
    brain = head.brain()
    side = rng.choice((-1, 1))
    centre = np.array([side * rng.uniform(20, 36), rng.uniform(-45, 45), rng.uniform(-20, 30)])
    core_size = rng.uniform(20, 29)
    rim_width = rng.uniform(9, 15)
    bumps = 4.5 * head.smooth_noise(rng, 11.0)
    beyond_core = head.distance_to(centre, rng.uniform(0.8, 1.25, 3)) - core_size + bumps
    fade = np.clip(1 - beyond_core / rim_width, 0, 1)
    core = 1 + 0.22 * head.smooth_noise(rng, 6.0)
    amount = np.where(beyond_core < 0, core, 0.8 * fade) * brain
    return amount, (beyond_core < 0.6 * rim_width) & brain


def _as_field(vector: np.ndarray) -> np.ndarray:
    """Return a vector (3,) as a constant field (3, 1, 1, 1)."""
    return vector[:, None, None, None]


def _voxel_positions(protocol: _Protocol, spacing: np.ndarray) -> np.ndarray:
    """Return the position of every voxel of the fine grid from its centre, (3, i, j, k), mm."""
    shape = np.array(protocol.shape) * (1, 1, protocol.slice_oversampling)
    axes = [(np.arange(side) - (side - 1) / 2) * step for side, step in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], width: np.ndarray) -> np.ndarray:
    """Return Gaussian noise of zero mean and unit variance, smoothed over ``width`` voxels per axis."""
    spectrum = fourier_gaussian(rfftn(rng.standard_normal(shape)), width, n=shape[-1])
    noise = irfftn(spectrum, shape)
    return (noise - noise.mean()) / noise.std()


def _average_slices(array: np.ndarray, protocol: _Protocol) -> np.ndarray:
    """Return the means over each ``slice_oversampling`` neighbouring thin slices."""
    return array.reshape(*protocol.shape, protocol.slice_oversampling).mean(axis=-1)


def _draw_affine(rng: np.random.Generator, protocol: _Protocol) -> np.ndarray:
    """Return voxel → scanner mm for right-anterior-superior axes, tilted by a few degrees and shifted."""
    angle = np.deg2rad(rng.uniform(-6, 6))
    cosine, sine = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ np.diag(protocol.spacing)
    affine[:3, 3] = rng.uniform(-12, 12, 3) - affine[:3, :3] @ ((np.array(protocol.shape) - 1) / 2)
    return affine


def _reorient(array: np.ndarray, affine: np.ndarray, orientation: str) -> Volume:
    """Return the array with its axes in ``orientation``; every voxel keeps its place in the scanner."""
    wanted = nib.orientations.axcodes2ornt(orientation)
    image = nib.Nifti1Image(array, affine).as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
    )
    return Volume.from_array(np.asarray(image.dataobj), image.affine)
