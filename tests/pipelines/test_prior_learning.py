"""Nodes of prior_learning, without a run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.bayes.network_prior import unpack_prior
from dwp_kedro.networks.checkpoint import Checkpoint
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
TRAINING = SourceTrainingParameters(n_networks=3)


def _kernels() -> tuple[KernelTensor, torch.Tensor]:
    """Network 2, which is held out, has kernels ten times as large; every twentieth is next to nothing."""
    names = ["network_0", "network_1_restarted", "network_2", "network_2_restarted"]
    rows = [name for name in names for _ in range(40)]
    kernels = 0.05 * torch.randn(160, 27, generator=torch.Generator().manual_seed(0))
    kernels[80:] *= 10
    kernels[::20] *= 1e-6
    zeros = torch.zeros(160, dtype=torch.int64)
    kept = kernels[:80][kernels[:80].norm(dim=1) > 1e-3]
    return KernelTensor(kernels.view(-1, 3, 3, 3), rows, ["init_conv"] * 160, zeros, zeros), kept


def _learn(folder: Path, **further: KernelTensor) -> tuple[Checkpoint, dict[str, float], torch.Tensor]:
    kernels, kept = _kernels()
    compute = ComputeParameters(device="cpu", precision="32-true", state_folder=folder)
    checkpoint, _, metrics = learn_group(kernels, LEARNING, compute, GROUP, **further)
    return checkpoint, metrics, kept


def test_controls_are_fitted_to_the_very_kernels_of_the_vae(tmp_path):
    checkpoint, metrics, kept = _learn(tmp_path)
    prior = unpack_prior(checkpoint)
    assert metrics["n_kernels"] == len(kept) == 76
    for kind, expected in fit_controls(kept, LEARNING.mixture_components).items():
        found = prior.controls[kind]["group_1"]
        assert found.scale == expected.scale == prior.groups["group_1"].scale
        assert torch.equal(found.log_prob(kept), expected.log_prob(kept))


def test_the_file_carries_controls_and_what_else_it_is_given(tmp_path):
    checkpoint, _, kept = _learn(tmp_path)
    cohort = CohortParameters.model_validate(
        {
            "name": "plaques",
            "description": "made up",
            "reader": {"layout": "decathlon", "folder": str(tmp_path)},
            "preprocessing": {"grid": [16, 16, 16]},
        }
    )
    subjects = pd.DataFrame({"subject": ["somebody"], "channels": [1]})
    source_posterior = Checkpoint({"mean/init_conv.weight": torch.ones(2)}, {"seed": 3})
    arguments = (cohort, subjects, TRAINING, LEARNING, NetworkParameters())
    packed = assemble_prior(*arguments, source_posterior=source_posterior, group_1=checkpoint)
    prior = unpack_prior(packed)
    assert prior.card["carries_source_posterior"]
    assert prior.source_posterior["mean/init_conv.weight"].tolist() == [1, 1]
    part = unpack_prior(checkpoint)
    for kind in ("scale_mixture", "gaussian"):
        assert torch.equal(
            prior.controls[kind]["group_1"].log_prob(kept), part.controls[kind]["group_1"].log_prob(kept)
        )
    assert "somebody" not in str(packed.metadata)
    bare = unpack_prior(assemble_prior(*arguments, group_1=checkpoint))
    assert not bare.source_posterior
    assert not bare.card["carries_source_posterior"]
    assert bare.card["further_sources"] == {}
    assert bare.card["title"] == "Deep weight prior from plaques"


def test_kernels_of_another_source_are_learnt_and_held_out_like_the_own(tmp_path):
    kept = _kernels()[1]
    # The other source's last network stands first among its numbers; its networks are called as ours.
    rows = [name for name in ("network_2", "network_2_restarted", "network_1") for _ in range(40)]
    theirs = 0.02 * torch.randn(120, 27, generator=torch.Generator().manual_seed(1))
    theirs[80:] *= 100
    zeros = torch.zeros(120, dtype=torch.int64)
    other = KernelTensor(theirs.view(-1, 3, 3, 3), rows, ["init_conv"] * 120, zeros, zeros)
    checkpoint, metrics, _ = _learn(tmp_path, from_north=other)
    pooled = torch.cat([kept, theirs[:80]])
    assert metrics["n_kernels"] == len(pooled)
    assert metrics["n_heldout_kernels"] == 76 + 40
    expected = fit_controls(pooled, LEARNING.mixture_components)["gaussian"]
    assert torch.equal(
        unpack_prior(checkpoint).controls["gaussian"]["group_1"].log_prob(kept), expected.log_prob(kept)
    )


def test_the_card_lists_all_sources_and_their_licences(tmp_path):
    checkpoint, _, _ = _learn(tmp_path)
    north = {"source_cohort": {"name": "strokes", "licence": "CC BY 4.0", "n_networks": 5}, "versions": {}}
    south = {"source_cohort": {"name": "tumours", "licence": "unknown", "n_networks": 4}, "versions": {}}
    further = gather_sources(north=north, south=south)
    cohort = CohortParameters.model_validate(
        {
            "name": "plaques",
            "description": "made up",
            "reader": {"layout": "decathlon", "folder": str(tmp_path)},
            "preprocessing": {"grid": [16, 16, 16]},
        }
    )
    subjects = pd.DataFrame({"subject": ["somebody"], "channels": [1]})
    arguments = (cohort, subjects, TRAINING, LEARNING, NetworkParameters())
    card = unpack_prior(assemble_prior(*arguments, further_sources=further, group_1=checkpoint)).card
    assert card["title"] == "Deep weight prior from plaques, strokes, tumours"
    assert card["further_sources"] == {"north": north["source_cohort"], "south": south["source_cohort"]}
    assert card["licence"] == "unknown; CC BY 4.0"
    assert card["n_networks_learnt_from"] == (3 - 1) + (5 - 1) + (4 - 1)
    assert card["n_networks_held_out"] == 3
