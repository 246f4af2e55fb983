from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dwp_kedro.bayes.groups import KernelGroup
from dwp_kedro.bayes.kernel_pool import (
    find_misfits,
    find_repeats,
    heldout_networks,
    pool_kernels,
    without_positions,
)
from dwp_kedro.bayes.kernels import KernelTensor
from dwp_kedro.networks.checkpoint import CheckpointError

GROUP = KernelGroup("group_2", "encoder 1/2", ("a", "b"))


def kernels_of(networks: list[str], layers: list[str], value: float = 1.0) -> KernelTensor:
    rows = [(network, layer) for network in networks for layer in layers]
    channels = torch.arange(len(rows))
    filled = torch.full((len(rows), 3, 3, 3), value)
    return KernelTensor(filled, [n for n, _ in rows], [layer for _, layer in rows], channels, channels + 1)


def test_pooled_kernels_keep_their_provenance_and_order():
    own, other = kernels_of(["network_0"], ["a", "b"], 1.0), kernels_of(["network_0"], ["b"], 2.0)
    pooled = pool_kernels(own, {"north": other, "south": kernels_of(["network_0"], ["a", "b"], 3.0)})
    assert pooled.network == ["network_0"] * 2 + ["north/network_0"] + ["south/network_0"] * 2
    assert pooled.layer == ["a", "b", "b", "a", "b"]
    assert pooled.kernels[:, 0, 0, 0].tolist() == [1, 1, 2, 3, 3]
    assert pooled.output_channel.tolist() == [0, 1, 0, 0, 1]
    assert pooled.input_channel.tolist() == [1, 2, 1, 1, 2]


def test_alone_kernels_stay_as_they_are():
    own = kernels_of(["network_0"], ["a"])
    pooled = pool_kernels(own, {})
    assert (pooled.network, pooled.layer) == (own.network, own.layer)
    assert torch.equal(pooled.kernels, own.kernels)


def _random(seed: int, networks: list[str]) -> KernelTensor:
    values = torch.randn(6 * len(networks), 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    zeros = torch.zeros(len(values), dtype=torch.int64)
    return KernelTensor(values, [name for name in networks for _ in range(6)], ["a"] * len(values), zeros, zeros)


def test_a_network_counts_once_whatever_it_is_called_and_however_its_kernels_lie():
    own, far = _random(0, ["network_0", "network_0_restarted", "network_1"]), _random(1, ["network_0"])
    turned = torch.arange(11, -1, -1)
    channels = own.output_channel[turned]
    renamed = KernelTensor(own.kernels[turned], ["x"] * 6 + ["y"] * 6, ["a"] * 12, channels, channels)
    both = pool_kernels(far, {"others": KernelTensor(own.kernels[:6], ["z"] * 6, ["a"] * 6, *[channels[:6]] * 2)})
    assert find_repeats({"own": own, "far": far}) == []
    assert find_repeats({"own": own}) == []
    assert find_repeats({"own": own, "east": renamed, "west": both}) == [
        "east: the kernels of x, y are those of own, and would count twice",
        "west: the kernels of others/z are those of own, and would count twice",
    ]
    with pytest.raises(CheckpointError, match="east: the kernels of x, y are those of this project"):
        pool_kernels(own, {"east": renamed})
    with pytest.raises(CheckpointError, match="twin: the kernels of network_0 are those of north, and"):
        pool_kernels(own, {"north": _random(2, ["network_0"]), "twin": _random(2, ["network_0"])})
    assert find_repeats({"north": without_positions(own), "own": own})


def test_what_is_handed_over_does_not_depend_on_where_kernels_lay():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 3, (60, 3, 3, 3), generator=generator).float()  # with ties
    names = [("network_1", "b"), ("network_0", "a"), ("network_1", "a")]
    rows = [names[row // 20] for row in range(60)]
    channels = torch.arange(60)
    kernels = KernelTensor(values, [n for n, _ in rows], [layer for _, layer in rows], channels, channels)
    moved = values.clone()
    for start in (0, 20, 40):
        moved[start : start + 20] = values[start + torch.randperm(20, generator=generator)]
    first = without_positions(kernels)
    second = without_positions(KernelTensor(moved, kernels.network, kernels.layer, channels, channels))
    assert torch.equal(first.kernels, second.kernels)
    assert (first.network, first.layer) == (second.network, second.layer)
    assert not first.output_channel.any()
    assert not first.input_channel.any()
    for start, name in ((0, names[0]), (20, names[2]), (40, names[1])):
        assert set(zip(first.network[start : start + 20], first.layer[start : start + 20], strict=True)) == {name}
        of_name = values[[row for row in range(60) if rows[row] == name]].flatten(1).tolist()
        assert sorted(first.kernels[start : start + 20].flatten(1).tolist()) == sorted(of_name)


def test_the_last_networks_of_every_source_are_held_out_with_their_restarts():
    own = ["network_0", "network_0_restarted", "network_9", "network_9_restarted", "network_10"]
    names = [*own, "north/network_0", "north/network_1", "north/network_1_restarted"]
    assert heldout_networks(names, 1) == {"network_10", "north/network_1", "north/network_1_restarted"}
    assert heldout_networks(own, 2) == {"network_9", "network_9_restarted", "network_10"}


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 3))
def test_no_source_is_held_out_for_another(counts: list[int], n_heldout: int, n_rows: int):
    names = [f"s{source}/network_{i}" for source, count in enumerate(counts) for i in range(count)]
    heldout = heldout_networks([name for name in names for _ in range(n_rows)], n_heldout)
    for source, count in enumerate(counts):
        of_source = {f"s{source}/network_{i}" for i in range(max(count - n_heldout, 0), count)}
        assert {name for name in heldout if name.startswith(f"s{source}/")} == of_source


def test_kernels_of_the_same_layers_fit():
    assert find_misfits("north", kernels_of(["network_0", "network_1"], ["b", "a"]), GROUP, 1) == []


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        (kernels_of(["network_0", "network_1"], ["a", "c"]), "they are of a, c; the network has a, b"),
        (kernels_of(["network_0", "network_1"], ["a"]), "they are of a; the network has a, b"),
        (kernels_of(["network_0", "network_1"], ["a", "b"], torch.nan), "some are not finite"),
        (
            kernels_of(["network_0", "network_0_restarted"], ["a", "b"]),
            "they are of 1 network(s), of which 1 would be held out",
        ),
    ],
)
def test_what_does_not_fit_is_named(kernels: KernelTensor, message: str):
    assert find_misfits("north", kernels, GROUP, 1) == [f"north, group_2 (encoder 1/2): {message}"]
