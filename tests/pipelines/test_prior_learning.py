"""Nodes of prior_learning, without a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import NetworkPrior, unpack_prior
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError
from dwp_kedro.parameters import (
    CohortParameters,
    ComputeParameters,
    NetworkParameters,
    PriorLearningParameters,
    ScheduleParameters,
    SourceTrainingParameters,
)
from dwp_kedro.pipelines.prior_learning.nodes import assemble_prior, gather_sources, learn_group
from dwp_kedro.training.kernel_prior import fit_controls

GROUP = KernelGroup("group_1", "encoder 1/1", ("init_conv",))
LEARNING = PriorLearningParameters(
    latent_dim=2, mixture_components=2, schedule=ScheduleParameters(kind="cosine", max_steps=2)
)
Learn = Callable[..., tuple[Checkpoint, pd.DataFrame, dict[str, float]]]
Assemble = Callable[..., Checkpoint]


def kernel_tensor(networks: list[str], kernels: torch.Tensor) -> KernelTensor:
    """Forty kernels (n, 27) of the group's one layer from each network."""
    zeros = torch.zeros(len(kernels), dtype=torch.int64)
    rows = [name for name in networks for _ in range(40)]
    return KernelTensor(kernels.view(-1, 3, 3, 3), rows, ["init_conv"] * len(rows), zeros, zeros)


@pytest.fixture
def kernels() -> KernelTensor:
    """Network 2, which is held out, has kernels ten times as large; every twentieth is next to nothing."""
    values = 0.05 * torch.randn(160, 27, generator=torch.Generator().manual_seed(0))
    values[80:] *= 10
    values[::20] *= 1e-6
    return kernel_tensor(["network_0", "network_1_restarted", "network_2", "network_2_restarted"], values)


@pytest.fixture
def kept(kernels: KernelTensor) -> torch.Tensor:
    """The kernels (n, 27) that are learnt from."""
    learnt_from = kernels.kernels[:80].flatten(1)
    return learnt_from[learnt_from.norm(dim=1) > 1e-3]


@pytest.fixture
def learn(kernels: KernelTensor, tmp_path: Path) -> Learn:
    """Learn the group's prior, from further kernels too."""
    compute = ComputeParameters(device="cpu", precision="32-true", state_folder=tmp_path)
    return partial(learn_group, kernels, LEARNING, compute, GROUP)


@pytest.fixture
def assemble(tmp_path: Path) -> Assemble:
    """Assemble the prior of a made-up cohort, whose one subject is called somebody."""
    cohort = CohortParameters.model_validate(
        {
            "name": "plaques",
            "description": "made up",
            "reader": {"layout": "decathlon", "folder": str(tmp_path)},
            "preprocessing": {"grid": [16, 16, 16]},
        }
    )
    subjects = pd.DataFrame({"subject": ["somebody"], "channels": [1]})
    training = SourceTrainingParameters(n_networks=3)
    return partial(assemble_prior, cohort, subjects, training, LEARNING, NetworkParameters())


def card_of(name: str, licence: str, n_networks: int) -> dict[str, Any]:
    counts = {"n_subjects": 9, "channels": 1, "n_networks": n_networks, "restarted": False, "l2": 0.001}
    words = {"name": name, "description": "Made up too.", "licence": licence, "classes": ["foreground"]}
    return {"format": "dwp-kedro kernels 1", "source_cohort": words | counts, "versions": {"torch": "2"}}


def log_probs(prior: NetworkPrior, kind: str, kernels: torch.Tensor) -> torch.Tensor:
    return prior.controls[kind]["group_1"].log_prob(kernels)


def test_controls_are_fitted_to_the_very_kernels_of_the_vae(learn: Learn, kept: torch.Tensor):
    checkpoint, _, metrics = learn()
    prior = unpack_prior(checkpoint)
    assert metrics["n_kernels"] == len(kept) == 76
    for kind, expected in fit_controls(kept, LEARNING.mixture_components).items():
        assert prior.controls[kind]["group_1"].scale == expected.scale == prior.groups["group_1"].scale
        assert torch.equal(log_probs(prior, kind, kept), expected.log_prob(kept))


def test_the_file_carries_controls_and_what_else_it_is_given(learn: Learn, assemble: Assemble, kept: torch.Tensor):
    checkpoint = learn()[0]
    source_posterior = Checkpoint({"mean/init_conv.weight": torch.ones(2)}, {"seed": 3})
    packed = assemble(source_posterior=source_posterior, group_1=checkpoint)
    prior, part = unpack_prior(packed), unpack_prior(checkpoint)
    assert prior.card["carries_source_posterior"]
    assert prior.source_posterior["mean/init_conv.weight"].tolist() == [1, 1]
    assert prior.card["groups"] == {"group_1": part.card}
    for kind in ("scale_mixture", "gaussian"):
        assert torch.equal(log_probs(prior, kind, kept), log_probs(part, kind, kept))
    assert "somebody" not in str(packed.metadata)
    bare = unpack_prior(assemble(group_1=checkpoint))
    assert not bare.source_posterior
    assert not bare.card["carries_source_posterior"]
    assert bare.card["further_sources"] == {}
    assert bare.card["title"] == "Deep weight prior from plaques"


def test_kernels_of_another_source_are_learnt_and_held_out_like_the_own(learn: Learn, kept: torch.Tensor):
    # The other source's last network stands first among its numbers; its networks are called as ours.
    theirs = 0.02 * torch.randn(120, 27, generator=torch.Generator().manual_seed(1))
    theirs[80:] *= 100
    checkpoint, _, metrics = learn(
        from_north=kernel_tensor(["network_2", "network_2_restarted", "network_1"], theirs)
    )
    pooled = torch.cat([kept, theirs[:80]])
    assert metrics["n_kernels"] == len(pooled)
    assert metrics["n_heldout_kernels"] == 76 + 40
    expected = fit_controls(pooled, LEARNING.mixture_components)["gaussian"]
    assert torch.equal(log_probs(unpack_prior(checkpoint), "gaussian", kept), expected.log_prob(kept))


def test_ones_own_kernels_that_came_back_are_refused(learn: Learn, kernels: KernelTensor):
    back = KernelTensor(
        kernels.kernels.flip(0),
        kernels.network[::-1],
        kernels.layer,
        kernels.output_channel,
        kernels.input_channel,
    )
    with pytest.raises(
        CheckpointError, match=r"north: the kernels of network_2_restarted, network_2, .* this project"
    ):
        learn(from_north=back)


def test_the_card_lists_all_sources_and_their_licences(learn: Learn, assemble: Assemble):
    north, south = card_of("strokes", "CC BY 4.0", 5), card_of("tumours", "unknown", 4)
    further = gather_sources(north=north, south=south)
    card = unpack_prior(assemble(further_sources=further, group_1=learn()[0])).card
    assert card["title"] == "Deep weight prior from plaques, strokes, tumours"
    assert card["further_sources"] == {"north": north["source_cohort"], "south": south["source_cohort"]}
    assert card["licence"] == "unknown; CC BY 4.0"
    assert card["n_networks_learnt_from"] == (3 - 1) + (5 - 1) + (4 - 1)
    assert card["n_networks_held_out"] == 3
