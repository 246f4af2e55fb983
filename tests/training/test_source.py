from __future__ import annotations

import pytest
import torch

from dwp_kedro.progress import listening
from dwp_kedro.training.settings import Compute, Schedule, SnapshotSettings
from dwp_kedro.training.source import (
    SOURCE_START,
    bootstrap_sample,
    collect_source_posterior,
    mean_dice,
    new_network,
    similarity_to_start,
    train_source,
    whole_seed,
)

CPU = Compute(device="cpu")
SNAPSHOTS = SnapshotSettings(learning_rate=0.01, n_snapshots=5, every_steps=3, rank=2)


def test_a_bootstrap_sample_draws_with_replacement_and_by_its_seed():
    sample = bootstrap_sample(200, seed=3)
    assert len(sample) == 200
    assert set(sample) <= set(range(200))
    # Each subject is left out with probability (1 − 1/n)^n ≈ 0.37.
    assert 1 - len(set(sample)) / 200 == pytest.approx(0.37, abs=0.1)
    assert sample == bootstrap_sample(200, seed=3) != bootstrap_sample(200, seed=4)


def test_similarity_to_the_start_sees_how_far_kernels_have_turned_and_not_their_size():
    start, other = (new_network(1, 2, (4, 4, 4, 8), seed) for seed in (0, 1))
    network = new_network(1, 2, (4, 4, 4, 8), seed=0)
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 0.01
        assert similarity_to_start(network, start) == pytest.approx(1)
        assert abs(similarity_to_start(other, start)) < 0.1
        for weight in network.parameters():
            if weight.shape[2:] == (3, 3, 3):
                # as much again, at a right angle
                turned = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
                turned -= (turned * weight).sum() / weight.square().sum() * weight
                weight += turned * weight.norm() / turned.norm()
            else:
                weight.neg_()
        assert similarity_to_start(network, start) == pytest.approx(0.5**0.5)


def _bright_cubes(n: int = 4):
    images = torch.zeros(n, 1, 16, 16, 16)
    labels = torch.zeros(n, 16, 16, 16, dtype=torch.uint8)
    for i in range(n):
        images[i, 0, i : i + 6, 4:10, 4:10] = 1
        labels[i, i : i + 6, 4:10, 4:10] = 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images + 0.1 * noise, labels


def _score(network, images, labels) -> float:
    return mean_dice(network, lambda i: images[i], lambda i: labels[i], len(images), task="score", compute=CPU)


def test_training_learns_and_l2_shrinks_the_kernels():
    images, labels = _bright_cubes()
    spreads = []
    for l2 in (0.0, 0.03):
        network = new_network(1, 2, (4, 4, 4, 4), seed=0)
        before = _score(network, images, labels)
        history = train_source(
            network,
            (images, labels),
            task="train",
            schedule=Schedule(kind="cosine", learning_rate=0.01, max_steps=40),
            batch_size=2,
            dice_weight=0.99,
            l2=l2,
            seed=0,
            compute=CPU,
            rows=range(4),
        )
        assert _score(network, images, labels) > max(0.6, before)
        assert history.rows[-1]["loss"] < history.rows[0]["loss"]
        assert {"step", "loss", "data_term", "train_dsc", "learning_rate"} <= history.rows[0].keys()
        spreads.append(network.down6.conv_1.weight.std().item())
    assert spreads[1] < 0.8 * spreads[0]


def test_no_two_networks_start_alike():
    """Neither those of bootstrap samples, nor those on the whole set, nor a grid cell's of the same seed."""
    seeds = [*range(20), *(whole_seed(first, index) for first in range(3) for index in range(5))]
    assert len(set(seeds)) == 20 + 15
    assert all(whole_seed(0, index) > 10**9 for index in range(20)), "grid cells count from 0"
    source, cell = (new_network(1, 2, (2, 2, 2, 4), 0, purpose) for purpose in (SOURCE_START, "initial weights"))
    assert not torch.equal(source.init_conv.weight, cell.init_conv.weight)


class Noise:
    """A transform that depends on its seed."""

    def __call__(self, batch, seed):
        images, labels = batch
        return images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)), labels

    def settings(self):
        return {}


class KilledError(Exception):
    pass


class AtEachStep:
    """Calls a function with each step of a training."""

    def __init__(self, function):
        self.function = function

    def on_progress(self, task, completed, total, metrics):
        self.function(completed)

    def on_metrics(self, metrics, step):
        pass


def _collect(network, compute=CPU):
    settings = {"snapshots": SNAPSHOTS, "batch_size": 2, "dice_weight": 0.99, "l2": 1e-3, "seed": 3}
    return collect_source_posterior(
        network, _bright_cubes(), task="snapshots", compute=compute, transform=Noise(), **settings
    )


def test_the_source_posterior_is_that_of_snapshots_kept_by_hand():
    network = new_network(1, 2, (2, 2, 2, 4), seed=0)
    start = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    found, history = _collect(network)
    assert all(torch.equal(weight, start[name]) for name, weight in network.named_parameters()), (
        "a copy is trained"
    )
    assert {row["learning_rate"] for row in history.rows} == {0.01}
    assert history.rows[-1]["step"] == 15

    kept = []

    def keep(step: int) -> None:
        if step % 3 == 0:
            kept.append({name: weight.detach().double() for name, weight in network.named_parameters()})

    settings = {"batch_size": 2, "dice_weight": 0.99, "l2": 1e-3, "seed": 3, "compute": CPU, "rows": range(4)}
    schedule = Schedule(kind="constant", learning_rate=0.01, max_steps=15)
    with listening(AtEachStep(keep)):
        train_source(network, _bright_cubes(), task="by hand", schedule=schedule, transform=Noise(), **settings)
    assert len(kept) == 6, "the start and five snapshots"
    assert found.keys() == {f"{part}/{name}" for part in ("mean", "variance", "deviations") for name in start}
    for name in start:
        weights = torch.stack([snapshot[name] for snapshot in kept])
        deviations = torch.stack([weights[4] - weights[:5].mean(0), weights[5] - weights.mean(0)])
        torch.testing.assert_close(found[f"mean/{name}"], weights.mean(0).float())
        torch.testing.assert_close(found[f"variance/{name}"], weights.var(0, unbiased=False).float())
        torch.testing.assert_close(found[f"deviations/{name}"], deviations.float())


@pytest.mark.parametrize("killed_at", [1, 7, 14])
def test_a_killed_collection_of_snapshots_goes_on_to_the_same_bits(tmp_path, killed_at):
    network = new_network(1, 2, (2, 2, 2, 4), seed=0)
    whole = _collect(network)[0]
    compute = Compute(device="cpu", state_folder=tmp_path, state_every_seconds=0)

    def kill(step: int) -> None:
        if step == killed_at:
            raise KilledError

    with listening(AtEachStep(kill)), pytest.raises(KilledError):
        _collect(network, compute)
    resumed = _collect(network, compute)[0]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
