"""docs/priors.md on a network of one's own, followed to the letter but for the number of steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior, pack_prior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.datasets import CheckpointDataset
from dwp_kedro.networks import KernelVAE, UNet3D

PAGE = (Path(__file__).parents[1] / "docs" / "priors.md").read_text(encoding="utf-8")
PROGRAM, *OTHERS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def write_prior(file: Path) -> None:
    """As the paper's U-Net gives it."""
    groups = kernel_groups(UNet3D(), in_channels=1)
    priors = {group.name: DeepWeightPrior(KernelVAE(), 0.1) for group in groups}
    card = {"groups": {group.name: {"label": group.label} for group in groups}}
    CheckpointDataset(filepath=str(file)).save(pack_prior(NetworkPrior(priors, card)))


def test_the_program_on_the_page_trains_a_network_of_monais_and_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prior(tmp_path / "ms_prior.safetensors")
    monkeypatch.chdir(tmp_path)
    images = torch.randn(3, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"images": images, "labels": (images[:, 0] > 1).to(torch.uint8), "scan": images[0]}
    exec(PROGRAM.replace("max_steps=500", "max_steps=2"), names)
    posterior, network = names["posterior"], names["network"]
    assert isinstance(posterior, BayesianNetwork)
    for group in posterior.groups:
        for layer in group.layers:
            assert not torch.equal(posterior.layer(layer).mean.cpu(), network.get_submodule(layer).weight), layer
    assert names["prediction"].probability.shape == (2, 16, 16, 16)
    assert names["prediction"].mutual_information.max() > 0, "samples of the posterior disagree"


def test_it_is_the_pages_only_one_and_needs_the_core_alone() -> None:
    assert not OTHERS
    assert "max_steps=500" in PROGRAM
    packages = re.findall(r"^(?:from|import) (\w+)", PROGRAM, flags=re.MULTILINE)
    assert set(packages) == {"json", "monai", "safetensors", "dwp_kedro"}
    rooms = re.findall(r"^from dwp_kedro\.(\w+)", PROGRAM, flags=re.MULTILINE)
    assert set(rooms) == {"networks", "bayes", "training"}
