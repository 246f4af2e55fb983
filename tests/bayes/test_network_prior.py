from __future__ import annotations

import json

import pytest
import torch

from dwp_kedro.bayes.control_priors import fit_gaussian, fit_scale_mixture
from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.network_prior import FORMAT, NetworkPrior, pack_prior, unpack_prior
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.checkpoint import Checkpoint, CheckpointError


def _prior(source_network=None) -> NetworkPrior:
    groups = {f"group_{i}": DeepWeightPrior(KernelVAE(latent_dim=i), 0.1 * i) for i in (1, 2)}
    kernels = {name: 0.1 * torch.randn(100, 27, generator=torch.Generator().manual_seed(0)) for name in groups}
    controls = {
        "scale_mixture": {name: fit_scale_mixture(rows, 3) for name, rows in kernels.items()},
        "gaussian": {name: fit_gaussian(rows) for name, rows in kernels.items()},
    }
    return NetworkPrior(groups, {"title": "made up"}, controls, source_network or {})


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
    for kind, densities in prior.controls.items():
        assert found.controls[kind].keys() == densities.keys()
        for name, density in densities.items():
            again = found.controls[kind][name]
            assert (type(again), again.scale) == (type(density), density.scale)
            assert torch.equal(again.log_prob(kernels), density.log_prob(kernels))
            for tensor in again.buffers():
                tensor.zero_()
    for parameter in found.groups["group_1"].parameters():
        parameter.data.zero_()
    found.source_network["init_conv.weight"].zero_()
    again = unpack_prior(packed)
    assert again.source_network["init_conv.weight"].tolist() == [1, 1]
    assert any(p.abs().sum() > 0 for p in again.groups["group_1"].parameters())
    assert again.controls["gaussian"]["group_1"].cholesky.abs().sum() > 0


def test_a_source_posterior_travels_along():
    prior = _prior()
    assert unpack_prior(pack_prior(prior)).source_posterior == {}
    prior.source_posterior = {"mean/init_conv.weight": torch.arange(3.0)}
    found = unpack_prior(pack_prior(prior))
    assert found.source_posterior["mean/init_conv.weight"].tolist() == [0, 1, 2]
    assert not found.source_network


def test_a_method_that_needs_a_source_network_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"'pr' starts from a source network.*carry_source_network"):
        unpack_prior(pack_prior(_prior())).require_source_network("pr")
    carried = _prior({"w": torch.ones(1)}).require_source_network("pr")
    assert carried.keys() == {"w"}


def test_what_a_source_network_leaves_is_all_gone_without_it():
    prior = _prior({"init_conv.weight": torch.ones(2)})
    prior.source_posterior = {"mean/init_conv.weight": torch.ones(2)}
    prior.card |= {"carries_source_network": True, "carries_source_posterior": True}
    packed = pack_prior(prior.without_source())
    assert not [name for name in packed.weights if name.startswith("source_")]
    assert packed.metadata["card"] == {
        "title": "made up",
        "carries_source_network": False,
        "carries_source_posterior": False,
    }
    assert prior.card["carries_source_network"], "the given prior stays as it was"
    whole = pack_prior(prior).weights
    assert packed.weights.keys() == {name for name in whole if not name.startswith("source_")}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in packed.weights.items())


def test_groups_that_lie_elsewhere_are_named():
    prior = _prior()
    prior.card["groups"] = {"group_1": {"label": "encoder 1/1"}, "group_2": {"label": "encoder 1/2"}}
    first = KernelGroup("group_1", "encoder 1/1", ("a",))
    prior.require_same_places([first])
    others = [first, KernelGroup("group_2", "encoder 1/4", ("b",)), KernelGroup("group_3", "decoder 1/1", ("c",))]
    with pytest.raises(CheckpointError) as caught:
        prior.require_same_places(others)
    assert str(caught.value) == (
        "the kernel groups differ: group_2: encoder 1/2 in the file, encoder 1/4 in the network; "
        "group_3: nothing in the file, decoder 1/1 in the network"
    )


def test_a_file_that_is_no_prior_is_refused():
    with pytest.raises(CheckpointError, match="not a prior"):
        unpack_prior(Checkpoint({}, {"network": "UNet3D"}))
    with pytest.raises(CheckpointError, match="'dwp-kedro prior 1'"):
        unpack_prior(Checkpoint({}, {"format": "dwp-kedro prior 1"}))
    with pytest.raises(CheckpointError, match="metadata lack card, control_scales: ask for it"):
        unpack_prior(Checkpoint({}, {"format": FORMAT, "kernel_vaes": {}}))


def test_a_group_whose_tensors_do_not_fit_is_named():
    packed = pack_prior(_prior())
    del packed.weights["group_2/decoder.linear.weight"]
    with pytest.raises(CheckpointError, match=r"group_2 does not fit.*\n.*decoder.linear.weight: missing"):
        unpack_prior(packed)


def test_a_control_whose_tensors_do_not_fit_is_named():
    packed = pack_prior(_prior())
    del packed.weights["controls/gaussian/group_2/cholesky"]
    with pytest.raises(CheckpointError, match=r"gaussian of group_2 cannot be built from mean "):
        unpack_prior(packed)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("kernel_vaes",), [1], "is no prior: .*'list'"),
        (("kernel_vaes", "group_1"), 5, "group_1 describes no network"),
        (("kernel_vaes", "group_1", "latent_dim"), 10**9, "group_1 does not fit: .* numbers, its weights are"),
        (("kernel_vaes", "group_1", "latent_dim"), "2", "group_1 describes no network"),
        (("kernel_vaes", "group_1", "scale"), "0.1", "the scale of group_1 is '0.1'"),
        (("kernel_vaes", "group_1", "scale"), -1, "the scale of group_1 is -1"),
        (("control_scales",), 3, "is no prior"),
        (("control_scales", "gaussian", "group_1"), None, "gaussian of group_1 cannot be built"),
        (("control_scales", "gaussian", "group_9"), 1.0, "gaussian of group_9 cannot be built from nothing"),
        (("control_scales", "other"), {"group_1": 1.0}, "other of group_1 cannot be built"),
        (("card",), [], "is no prior"),
    ],
)
def test_metadata_of_other_kinds_are_refused(path: tuple[str, ...], value: object, problem: str):
    packed = pack_prior(_prior())
    place = packed.metadata
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(CheckpointError, match=problem):
        unpack_prior(packed)


@pytest.mark.parametrize("name", ["group_1/decoder.linear.weight", "controls/gaussian/group_2/mean"])
def test_numbers_that_are_not_finite_are_refused(name: str):
    packed = pack_prior(_prior())
    packed.weights[name].view(-1)[0] = torch.nan
    with pytest.raises(CheckpointError, match=f"NaN or infinite numbers, in {name}"):
        unpack_prior(packed)


def test_densities_of_other_shapes_are_refused():
    packed = pack_prior(_prior())
    name = "controls/gaussian/group_1/mean"
    packed.weights[name] = packed.weights[name][:5]
    with pytest.raises(CheckpointError, match="gaussian of group_1 cannot be built"):
        unpack_prior(packed)
