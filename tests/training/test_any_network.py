"""The posterior and the priors on networks that this project has not written."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet
from torch import Tensor, nn

from dwp_kedro.bayes.groups import is_kernel_layer, kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.training.loop import train
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.target import Method, PosteriorSettings, initial_scales, make_objective, make_prior


def _dynunet() -> nn.Module:
    return DynUNet(
        3, 1, 2, kernel_size=[3] * 4, strides=[1, 2, 2, 2], upsample_kernel_size=[2] * 3, filters=(16, 24, 40, 64)
    )


def _segresnet() -> nn.Module:
    return SegResNet(3, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1, 1), blocks_up=(1, 1))


NETWORKS = {"dynunet": _dynunet, "segresnet": _segresnet}
GROUPS = {
    "dynunet": [*(f"encoder 1/{n}" for n in (1, 2, 4, 8)), *(f"decoder 1/{n}" for n in (4, 2, 1))],
    "segresnet": [*(f"encoder 1/{n}" for n in (1, 2, 4)), *(f"decoder 1/{n}" for n in (2, 1))],
}


def _new(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]()


def _batch() -> tuple[Tensor, Tensor]:
    images = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    return images, (images[:, 0] > 1).to(torch.uint8)


def _snapshots(network: nn.Module) -> Checkpoint:
    weights = {}
    for name, weight in network.named_parameters():
        weights[f"mean/{name}"] = weight.detach()
        weights[f"variance/{name}"] = torch.full_like(weight, 1e-4)
        weights[f"deviations/{name}"] = 1e-2 * torch.randn(3, *weight.shape)
    return Checkpoint(weights, {})


@pytest.mark.parametrize("name", NETWORKS)
def test_every_3x3x3_layer_lies_in_one_group_of_its_resolution(name):
    network = _new(name)
    groups = kernel_groups(network, 1)
    assert [group.label for group in groups] == GROUPS[name]
    listed = [layer for group in groups for layer in group.layers]
    assert sorted(listed) == sorted(n for n, module in network.named_modules() if is_kernel_layer(module))


@pytest.mark.parametrize("name", NETWORKS)
def test_prediction_at_the_mean_equals_the_plain_network_exactly(name):
    network = _new(name).eval()
    groups = kernel_groups(network, 1)
    posterior = BayesianNetwork(network, groups, {group.name: 0.1 for group in groups}).eval()
    images = _batch()[0]
    with torch.no_grad():
        assert torch.equal(posterior(images), network(images))
        with posterior.weight_sample(torch.Generator().manual_seed(0)):
            assert not torch.allclose(posterior(images), network(images))
        moved = posterior.layer(groups[-1].layers[-1])
        moved.mean.data += 0.1
        plain = network.get_submodule(groups[-1].layers[-1]).get_parameter("weight")
        plain.copy_(moved.mean)
        assert torch.equal(posterior(images), network(images))


@pytest.mark.parametrize(
    ("name", "priors", "estimator"),
    [
        ("dynunet", ("deep_weight_prior", "source_posterior"), "local_reparameterisation"),
        ("segresnet", ("deep_weight_prior",), "weight_samples"),
    ],
)
def test_a_short_training_under_priors_moves_the_posterior(name, priors, estimator, tmp_path):
    network = _new(name)
    groups = kernel_groups(network, 1)
    known = NetworkPrior({group.name: DeepWeightPrior(KernelVAE(latent_dim=2), 0.1) for group in groups}, {})
    settings = PosteriorSettings(temperature=1.0, estimator=estimator)
    objective, trained = make_objective(
        network,
        groups,
        Method(priors),
        make_prior(priors, known, _snapshots(network), settings, groups),
        initial_scales(network, groups),
        settings,
        dice_weight=0.99,
        n_volumes=2,
    )
    before = {key: tensor.clone() for key, tensor in trained.state_dict().items()}
    history = train(
        objective,
        _batch(),
        task="t",
        batch_size=2,
        schedule=Schedule(kind="cosine", learning_rate=1e-3, max_steps=3),
        seed=0,
        compute=Compute(device="cpu", precision="32-true", state_folder=tmp_path, state_every_seconds=0),
    )
    assert all(math.isfinite(row[term]) for row in history.rows for term in ("loss", "data_term", "kl"))
    assert isinstance(trained, BayesianNetwork)
    for group in groups:
        for layer in group.layers:
            for parameter in ("mean", "raw_log_variance"):
                key = f"network.{layer}.{parameter}"
                assert not torch.equal(trained.state_dict()[key], before[key]), key
