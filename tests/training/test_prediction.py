from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dwp_kedro.bayes.groups import KernelGroup, kernel_groups
from dwp_kedro.bayes.posterior import BayesianNetwork
from dwp_kedro.networks import UNet3D
from dwp_kedro.networks.unet import initialise_he
from dwp_kedro.training.prediction import Prediction, predict
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute

OPTIONS = {"task": "p", "compute": Compute(device="cpu", precision="32-true")}


class Constant(nn.Module):
    """Says the same class probabilities everywhere."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[None, :, None, None, None].expand(len(x), -1, *x.shape[2:])


def _volumes(n: int = 2) -> Tensor:
    return torch.randn(n, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def _plain(seed: int = 0) -> UNet3D:
    network = UNet3D(channels=(2, 3, 3, 4))
    initialise_he(network, torch.Generator().manual_seed(seed))
    return network


def _posterior(sigma: float = 0.1, seed: int = 0) -> BayesianNetwork:
    network = _plain(seed)
    groups = kernel_groups(network, 1)
    return BayesianNetwork(network, groups, {group.name: sigma for group in groups})


def _predict(networks: list[nn.Module], volumes: Tensor, **options: Any) -> list[Prediction]:
    return list(predict(networks, lambda i: volumes[i], len(volumes), **OPTIONS, **options))


def _same(one: Prediction, other: Prediction) -> bool:
    names = ("probability", "entropy", "mutual_information")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def _entropy(*probabilities: float) -> float:
    return -sum(p * math.log(p) for p in probabilities)


def test_two_networks_that_disagree_have_the_uncertainties_of_their_mean():
    (prediction,) = _predict([Constant(0.9, 0.1), Constant(0.3, 0.7)], _volumes(1))
    grid = torch.ones(16, 16, 16)
    torch.testing.assert_close(prediction.probability, torch.stack([0.6 * grid, 0.4 * grid]))
    torch.testing.assert_close(prediction.entropy, _entropy(0.6, 0.4) * grid)
    information = _entropy(0.6, 0.4) - (_entropy(0.9, 0.1) + _entropy(0.3, 0.7)) / 2
    assert information > 0.1
    torch.testing.assert_close(prediction.mutual_information, information * grid)


def test_what_networks_agree_on_has_entropy_but_no_mutual_information():
    (prediction,) = _predict([Constant(0.25, 0.25, 0.5)] * 3, _volumes(1))
    torch.testing.assert_close(prediction.entropy, torch.full((16, 16, 16), 1.5 * math.log(2)))
    torch.testing.assert_close(prediction.mutual_information, torch.zeros(16, 16, 16), rtol=0, atol=1e-6)
    assert (prediction.mutual_information >= 0).all()


def test_a_probability_of_zero_has_no_entropy():
    (prediction,) = _predict([Constant(1.0, 0.0)], _volumes(1))
    assert torch.equal(prediction.entropy, torch.zeros(16, 16, 16))


def test_prediction_at_the_posterior_mean_is_the_plain_networks_bit_for_bit():
    volumes = _volumes()
    plain, mean = _predict([_plain()], volumes), _predict([_posterior()], volumes)
    for index in range(2):
        assert _same(plain[index], mean[index])
        by_hand = _plain()(volumes[[index]]).softmax(1)[0]
        assert torch.equal(mean[index].probability, by_hand.detach())
        assert not mean[index].mutual_information.any()
    assert plain[0].probability.dtype == plain[0].entropy.dtype == torch.float32


def test_weight_samples_of_every_network_are_averaged_as_a_loop_by_hand_does():
    networks, volumes = [_posterior(seed=0), _posterior(seed=1)], _volumes(1)
    passes = []
    with torch.no_grad():
        for number, network in enumerate(networks):
            generator = make_generator(5, f"prediction of network {number}")
            for _ in range(3):
                with network.weight_sample(generator):
                    passes.append(network(volumes)[0].softmax(0))
    each = torch.stack(passes)
    mean = each.mean(0)
    entropy = -(mean * mean.log()).sum(0)
    (prediction,) = _predict(networks, volumes, n_samples=3, seed=5)
    torch.testing.assert_close(prediction.probability, mean)
    torch.testing.assert_close(prediction.entropy, entropy)
    information = entropy + (each * each.log()).sum(1).mean(0)
    assert information.max() > 0.01
    torch.testing.assert_close(prediction.mutual_information, information, rtol=1e-3, atol=1e-6)


def test_a_sample_has_one_weight_for_all_voxels_and_all_volumes():
    volumes = _volumes(1).expand(2, -1, -1, -1, -1).clone()
    first, second = _predict([_posterior()], volumes, n_samples=2, seed=1)
    assert _same(first, second)
    # Away from the padded edges, a flat volume gives one value: noise per voxel would not.
    group = KernelGroup("group_1", "encoder 1/1", ("0",))
    layer = BayesianNetwork(nn.Sequential(nn.Conv3d(1, 2, 3, padding=1)), [group], {"group_1": 0.5})
    (prediction,) = _predict([layer], torch.full((1, 1, 8, 8, 8), 0.3), n_samples=3)
    inside = prediction.probability[0, 1:-1, 1:-1, 1:-1]
    assert inside.max() - inside.min() < 1e-5
    assert prediction.mutual_information[1:-1, 1:-1, 1:-1].min() > 1e-4


def test_seeds_decide_the_bits():
    volumes = _volumes(1)
    runs = [_predict([_posterior()], volumes, n_samples=2, seed=seed)[0] for seed in (1, 1, 2)]
    assert _same(runs[0], runs[1])
    assert not torch.equal(runs[0].probability, runs[2].probability)


def test_networks_of_an_ensemble_draw_noise_of_their_own_and_weigh_the_same():
    volumes = _volumes(1)
    (twins,) = _predict([_posterior(), _posterior()], volumes, n_samples=1)
    assert twins.mutual_information.max() > 1e-4
    (mixed,) = _predict([_plain(seed=3), _posterior()], volumes, n_samples=4)
    (plain,) = _predict([_plain(seed=3)], volumes)
    with torch.no_grad():
        generator = make_generator(0, "prediction of network 1")
        network, total = _posterior(), torch.zeros(2, 16, 16, 16)
        for _ in range(4):
            with network.weight_sample(generator):
                total += network(volumes)[0].softmax(0)
    torch.testing.assert_close(mixed.probability, plain.probability / 2 + total / 8)


def _see_halves(network: nn.Module, volume: Tensor, device: torch.device) -> Tensor:
    """Two windows side by side, without overlap."""
    return torch.cat([network(half.to(device)) for half in volume.split(16, dim=2)], 2)


def test_one_weight_sample_serves_all_windows_of_a_volume():
    half = _volumes(1)
    volume = torch.cat([half, half], 2)
    (prediction,) = _predict([_posterior()], volume, n_samples=3, seed=2, infer=_see_halves)
    (alone,) = _predict([_posterior()], half, n_samples=3, seed=2)
    for name in ("probability", "entropy", "mutual_information"):
        first, second = getattr(prediction, name).split(16, dim=-3)
        assert torch.equal(first, second), "the same image, the same weights"
        assert torch.equal(first, getattr(alone, name))
    assert prediction.mutual_information.max() > 1e-4


def test_gradients_stay_on_for_whoever_asks_between_volumes():
    for _ in predict([_plain()], lambda i: _volumes()[i], 2, **OPTIONS):
        assert torch.is_grad_enabled()


def test_no_network_is_an_error():
    with pytest.raises(ValueError, match="networks: a prediction needs at least one"):
        _predict([], _volumes(1))
