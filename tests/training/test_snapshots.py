from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dwp_kedro.training.settings import SnapshotSettings
from dwp_kedro.training.snapshots import Snapshots

SETTINGS = SnapshotSettings(learning_rate=0.1, n_snapshots=6, every_steps=3, rank=4)


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 1, 1))


def _walk(network: nn.Module, observer: Snapshots, steps: range) -> list[dict[str, torch.Tensor]]:
    """Move the weights at random from step to step; return those at every third, as plain float64 copies."""
    taken = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
        observer.after_step(step)
        if step % 3 == 0:
            taken.append({name: weight.detach().double().clone() for name, weight in network.named_parameters()})
    return taken


def test_the_moments_and_deviations_are_those_of_kept_snapshots():
    network = _network()
    start = {name: weight.detach().double().clone() for name, weight in network.named_parameters()}
    observer = Snapshots(network, SETTINGS)
    snapshots = [start, *_walk(network, observer, range(1, 19))]
    assert len(snapshots) == 7
    found = observer.gaussian()
    assert len(found) == 3 * len(start)
    for name in start:
        stacked = torch.stack([snapshot[name] for snapshot in snapshots])
        means = [stacked[: count + 1].mean(0) for count in range(7)]
        deviations = torch.stack([stacked[count] - means[count] for count in (3, 4, 5, 6)])
        torch.testing.assert_close(found[f"mean/{name}"], stacked.mean(0).float())
        torch.testing.assert_close(found[f"variance/{name}"], stacked.var(0, unbiased=False).float())
        torch.testing.assert_close(found[f"deviations/{name}"], deviations.float())


def test_a_variance_far_below_the_weights_is_not_lost():
    """E[w²] − E[w]² of float32 numbers near 1 is noise below 1e-7."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    observer = Snapshots(network, SETTINGS)
    shift = 2.0**-14
    for step in range(1, 19):
        with torch.no_grad():
            network.weight.fill_(1 + shift * (step % 2))
        observer.after_step(step)
    # At the start and at steps 3, 6, …, 18: three of the seven weights are shifted.
    expected = shift**2 * (3 / 7) * (4 / 7)
    assert observer.gaussian()["variance/weight"].item() == pytest.approx(expected, rel=1e-5)


def test_weights_that_rest_have_no_variance():
    network = _network()
    observer = Snapshots(network, SETTINGS)
    for step in range(1, 19):
        observer.after_step(step)
    found = observer.gaussian()
    assert torch.equal(found["mean/0.weight"], network[0].weight.detach())
    assert found["deviations/0.weight"].shape == (4, 2, 1, 3, 3, 3)
    assert not found["deviations/0.weight"].any()
    assert (found["variance/0.weight"] >= 0).all()
    assert found["variance/0.weight"].max() < 1e-12


@pytest.mark.parametrize("stopped_at", [2, 7, 15])
def test_the_state_holds_all_that_was_gathered(stopped_at):
    network = _network()
    twin = copy.deepcopy(network)
    whole, first = Snapshots(network, SETTINGS), Snapshots(twin, SETTINGS)
    _walk(network, whole, range(1, 19))
    _walk(twin, first, range(1, stopped_at + 1))
    second = Snapshots(twin, SETTINGS)
    second.load_state_dict(first.state_dict())
    _walk(twin, second, range(stopped_at + 1, 19))
    found = second.gaussian()
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.gaussian().items())
