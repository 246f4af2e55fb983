"""The posterior and the priors on networks that this project has not written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, SegResNet
from torch import Tensor, nn

from dwp_kedro.bayes.elbo import kl_bound
from dwp_kedro.bayes.groups import is_kernel_layer, kernel_groups
from dwp_kedro.bayes.network_prior import NetworkPrior
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.bayes.priors import DeepWeightPrior
from dwp_kedro.networks import KernelVAE
from dwp_kedro.networks.checkpoint import Checkpoint
from dwp_kedro.training.kernel_prior import collect_kernels, fit_controls, learn_prior
from dwp_kedro.training.loop import History, train
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.target import (
    Method,
    PosteriorObjective,
    PosteriorSettings,
    initial_scales,
    make_objective,
    make_prior,
)


def _dynunet() -> nn.Module:
    return DynUNet(
        3, 1, 2, kernel_size=[3] * 4, strides=[1, 2, 2, 2], upsample_kernel_size=[2] * 3, filters=(16, 24, 40, 64)
    )


def _segresnet() -> nn.Module:
    return SegResNet(3, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1, 1), blocks_up=(1, 1))


def _basicunet() -> nn.Module:
    """Its convolutions have biases."""
    return BasicUNet(3, 1, 2, features=(4, 4, 8, 8, 8, 4), norm=("group", {"num_groups": 2}))


NETWORKS = {"dynunet": _dynunet, "segresnet": _segresnet, "basicunet": _basicunet}
GROUPS = {
    "basicunet": [*(f"encoder 1/{n}" for n in (1, 2, 4, 8, 16)), *(f"decoder 1/{n}" for n in (8, 4, 2, 1))],
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


def _objective(
    network: nn.Module,
    priors: tuple[str, ...],
    settings: PosteriorSettings,
    known: NetworkPrior | None = None,
) -> tuple[PosteriorObjective, BayesianNetwork]:
    groups = kernel_groups(network, 1)
    if known is None:
        untrained = {group.name: DeepWeightPrior(KernelVAE(latent_dim=2), 0.1) for group in groups}
        known = NetworkPrior(untrained, {})
    prior = make_prior(priors, known, _snapshots(network), settings, groups)
    scales = initial_scales(network, groups)
    objective, trained = make_objective(
        network, groups, Method(priors), prior, scales, settings, 0.99, n_volumes=2
    )
    assert isinstance(objective, PosteriorObjective)
    assert isinstance(trained, BayesianNetwork)
    return objective, trained


def _train(
    objective: PosteriorObjective, learning_rate: float, steps: int, state_folder: Path | None = None
) -> History:
    schedule = Schedule(kind="cosine", learning_rate=learning_rate, max_steps=steps)
    compute = Compute(device="cpu", precision="32-true", state_folder=state_folder, state_every_seconds=0)
    return train(objective, _batch(), task="t", batch_size=2, schedule=schedule, seed=0, compute=compute)


CASES = {
    "basicunet": (("deep_weight_prior",), "local_reparameterisation"),
    "dynunet": (("deep_weight_prior", "source_posterior"), "local_reparameterisation"),
    "segresnet": (("deep_weight_prior",), "weight_samples"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_prior_pulls_at_the_kernels_of_every_group_and_at_nothing_else(name):
    objective, posterior = _objective(_new(name), CASES[name][0], PosteriorSettings())
    assert objective.prior is not None
    kl_bound(posterior, objective.prior, torch.Generator().manual_seed(0)).backward()
    for group in posterior.groups:
        layers = [posterior.layer(layer) for layer in group.layers]
        assert any(layer.mean.grad.count_nonzero() > 0 for layer in layers), group
        # The entropy's alone is −½ for every weight.
        assert any((layer.raw_log_variance.grad + 0.5).count_nonzero() > 0 for layer in layers), group
    for key, parameter in posterior.named_parameters():
        assert (parameter.grad is not None) == key.endswith((".mean", ".raw_log_variance")), key


@pytest.mark.parametrize("name", CASES)
def test_a_short_training_moves_posterior_and_encoders_and_nothing_else_of_the_prior(name, tmp_path):
    priors, estimator = CASES[name]
    objective, posterior = _objective(_new(name), priors, PosteriorSettings(temperature=1.0, estimator=estimator))
    before = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    history = _train(objective, learning_rate=1e-3, steps=3, state_folder=tmp_path)
    assert all(math.isfinite(row[term]) for row in history.rows for term in ("loss", "data_term", "kl"))
    stays = {key: torch.equal(before[key], tensor) for key, tensor in objective.state_dict().items()}
    assert all(is_same != (".encoder." in key) for key, is_same in stays.items() if key.startswith("prior."))
    for group in posterior.groups:
        for layer in group.layers:
            for parameter in ("mean", "raw_log_variance"):
                assert not stays[f"posterior.network.{layer}.{parameter}"], layer


@pytest.mark.parametrize("name", NETWORKS)
def test_a_large_temperature_lowers_the_kl_which_the_data_term_alone_raises(name):
    changes = []
    for temperature in (1e-9, 100.0):
        # Of the two estimators the one of less noise: in so few steps the other's hides what the data term does.
        settings = PosteriorSettings(
            temperature=temperature, train_encoder=False, estimator="local_reparameterisation"
        )
        objective, posterior = _objective(_new(name), ("deep_weight_prior",), settings)
        assert objective.prior is not None
        kls = []
        for steps in (0, 5):
            if steps:
                _train(objective, learning_rate=5e-3, steps=steps)
            with torch.no_grad():
                kls.append(kl_bound(posterior, objective.prior, torch.Generator().manual_seed(9)).item())
        changes.append(kls[1] - kls[0])
    assert changes[1] < 0 < changes[0]


@pytest.fixture(scope="module")
def learnt() -> NetworkPrior:
    """All kinds of prior, learnt from the kernels of a SegResNet."""
    weights = {"network_0": _new("segresnet").state_dict()}
    schedule = Schedule(kind="constant", learning_rate=1e-3, max_steps=3)
    compute = Compute(device="cpu", precision="32-true")
    deep, controls = {}, {"scale_mixture": {}, "gaussian": {}}
    for group in kernel_groups(_new("segresnet"), 1):
        kernels = collect_kernels(weights, group).kernels.view(-1, 27)
        deep[group.name], _ = learn_prior(
            kernels, task="t", latent_dim=2, literal_heads=False, batch_size=64, schedule=schedule, seed=0,
            compute=compute,
        )  # fmt: skip
        for kind, fitted in fit_controls(kernels, n_components=2).items():
            controls[kind][group.name] = fitted
    return NetworkPrior(deep, {}, controls)


@pytest.mark.parametrize("kind", ["deep_weight_prior", "scale_mixture", "gaussian", "standard_normal"])
def test_a_prior_of_each_kind_learnt_from_such_a_network_pulls_another_one_its_way(learnt, kind):
    """Of a network whose kernels are five times too large, each step lowers the KL by smaller kernels."""
    network = _new("segresnet")
    groups = kernel_groups(network, 1)
    with torch.no_grad():
        for group in groups:
            for layer in group.layers:
                network.get_submodule(layer).get_parameter("weight").mul_(5)
    objective, posterior = _objective(
        network, (kind,), PosteriorSettings(temperature=1e6, kernel_fraction=1), learnt
    )

    def size() -> float:
        means = [posterior.layer(layer).mean for group in groups for layer in group.layers]
        return sum(mean.detach().square().sum().item() for mean in means)

    before = size()
    history = _train(objective, learning_rate=1e-2, steps=4)
    assert size() < before
    assert history.rows[-1]["kl"] < history.rows[0]["kl"]
