from __future__ import annotations

import json

import pytest
import torch

from dwp_kedro.bayes.network_prior import NetworkPrior, pack_prior, unpack_prior
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError


def _prior(source_network=None) -> NetworkPrior:
    groups = {f"group_{i}": DeepWeightPrior(KernelVAE(latent_dim=i), 0.1 * i) for i in (1, 2)}
    return NetworkPrior(groups, {"title": "made up"}, source_network or {})


def test_a_prior_comes_back_from_its_file_the_same_and_shares_nothing():
    prior = _prior({"init_conv.weight": torch.ones(2)})
    packed = pack_prior(prior)
    assert json.loads(json.dumps(packed.metadata)) == packed.metadata
    found = unpack_prior(packed)
    assert found.card == prior.card
    for name, group in prior.groups.items():
        assert found.groups[name].scale == group.scale
        kernels, noise = torch.randn(5, 27), torch.randn(5, group.vae.latent_dim)
        assert torch.equal(found.groups[name].bound(kernels, noise), group.bound(kernels, noise))
    for parameter in found.groups["group_1"].parameters():
        parameter.data.zero_()
    found.source_network["init_conv.weight"].zero_()
    again = unpack_prior(packed)
    assert again.source_network["init_conv.weight"].tolist() == [1, 1]
    assert any(p.abs().sum() > 0 for p in again.groups["group_1"].parameters())


def test_a_method_that_needs_a_source_network_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"'pr' starts from a source network.*carry_source_network"):
        unpack_prior(pack_prior(_prior())).require_source_network("pr")
    carried = _prior({"w": torch.ones(1)}).require_source_network("pr")
    assert carried.keys() == {"w"}


def test_a_file_that_is_no_prior_is_refused():
    with pytest.raises(CheckpointError, match="not a prior"):
        unpack_prior(Checkpoint({}, {"network": "UNet3D"}))


def test_a_group_whose_tensors_do_not_fit_is_named():
    packed = pack_prior(_prior())
    del packed.weights["group_2/decoder.linear.weight"]
    with pytest.raises(CheckpointError, match=r"group_2 does not fit.*\n.*decoder.linear.weight: missing"):
        unpack_prior(packed)
