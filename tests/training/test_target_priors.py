from __future__ import annotations

import pytest
import torch
from tiny_targets import (
    CHANNELS,
    DWP,
    tiny_groups,
    tiny_network_prior,
    tiny_priors,
    tiny_source_posterior,
)

from dwp_kedro.bayes.control_priors import StandardNormalPrior
from dwp_kedro.bayes.groups import kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior
from dwp_kedro.bayes.priors import KernelwisePrior, ProductOfExperts
from dwp_kedro.bayes.source_posterior import SourcePosterior
from dwp_kedro.networks.checkpoint import CheckpointError
from dwp_kedro.training.source import new_network
from dwp_kedro.training.target import (
    PosteriorSettings,
    initial_scales,
    make_objective,
    make_prior,
)


def test_a_prior_that_does_not_fit_names_the_groups():
    network, priors = new_network(1, 2, CHANNELS, seed=0), tiny_priors()
    del priors["group_2"], priors["group_6"]
    groups, settings, named = (
        kernel_groups(network, 1),
        PosteriorSettings(),
        r"group_2 \(encoder 1/2\), group_6 \(dec",
    )
    scales = initial_scales(network, groups)
    with pytest.raises(ValueError, match=named):
        make_objective(network, groups, DWP, KernelwisePrior(priors), scales, settings, 0.99, 5)
    with pytest.raises(ValueError, match="deep_weight_prior needs a prior"):
        make_objective(network, groups, DWP, None, scales, settings, 0.99, 5)


def test_priors_are_made_by_name():
    settings, groups, known = (
        PosteriorSettings(kernel_fraction=0.3, source_scale=7.0),
        tiny_groups(),
        tiny_network_prior(),
    )
    assert make_prior((), None, None, settings, groups) is None
    mixture = make_prior(("scale_mixture",), known, None, settings, groups)
    assert isinstance(mixture, KernelwisePrior)
    assert mixture.kernel_fraction == 0.3
    assert torch.equal(
        mixture.groups["group_3"].log_variances, known.controls["scale_mixture"]["group_3"].log_variances
    )
    normal = make_prior(("standard_normal",), None, None, settings, groups)
    assert isinstance(normal, KernelwisePrior)
    assert all(isinstance(prior, StandardNormalPrior) for prior in normal.groups.values())
    product = make_prior(
        ("deep_weight_prior", "source_posterior"), known, tiny_source_posterior(), settings, groups
    )
    assert isinstance(product, ProductOfExperts)
    assert [type(expert) for expert in product.experts] == [KernelwisePrior, SourcePosterior]
    layers = [layer for group in groups for layer in group.layers]
    expected = SourcePosterior.from_checkpoint(tiny_source_posterior(), layers, 7.0)
    assert torch.equal(product.experts[1].precision, expected.precision)
    carrying = NetworkPrior(tiny_priors(), {}, source_posterior=tiny_source_posterior().weights)
    carried = make_prior(("source_posterior",), carrying, None, settings, groups)
    assert isinstance(carried, SourcePosterior)
    assert torch.equal(carried.precision, expected.precision)


def test_what_a_prior_needs_and_is_not_there_is_said():
    settings, groups = PosteriorSettings(), tiny_groups()
    with pytest.raises(CheckpointError, match=r"source_training\.snapshots"):
        make_prior(("source_posterior",), tiny_network_prior(), None, settings, groups)
    with pytest.raises(CheckpointError, match="gaussian is learnt from source networks"):
        make_prior(("gaussian",), None, None, settings, groups)
    with pytest.raises(CheckpointError, match=r"no gaussian in the prior file, which has deep_weight_prior$"):
        make_prior(("gaussian",), NetworkPrior(tiny_priors(), {}), None, settings, groups)
