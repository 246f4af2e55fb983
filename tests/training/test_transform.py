from __future__ import annotations

import pytest
import torch

from dwp_kedro.training.transform import InTurn, short_seed, stacked


class AddSeed:
    def __init__(self, factor: float) -> None:
        self.factor, self.seeds = factor, []

    def __call__(self, batch, seed):
        self.seeds.append(seed)
        (values,) = stacked(batch)
        return (values * self.factor + seed / 2**32,)

    def settings(self):
        return {"factor": self.factor}


def test_transforms_act_in_their_order_each_with_its_own_seed():
    first, second = AddSeed(10.0), AddSeed(0.1)
    (found,) = InTurn([first, second])(([torch.zeros(2), torch.ones(2)],), 7)
    a, b = first.seeds[0], second.seeds[0]
    expected = (torch.tensor([[0.0, 0.0], [10.0, 10.0]]) + a / 2**32) * 0.1 + b / 2**32
    torch.testing.assert_close(found, expected)
    assert len({a, b, 7}) == 3, "what one draws must not tell what the other does"
    InTurn([first, second])((torch.zeros(1, 2),), 8)
    assert len({*first.seeds, *second.seeds}) == 4
    assert InTurn([first, second]).settings() == {"in_turn": [{"factor": 10.0}, {"factor": 0.1}]}


def test_seeds_fit_into_32_bits_and_depend_on_their_purpose():
    seeds = [short_seed(seed, purpose) for seed in range(50) for purpose in ("a", "b")]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_rows_of_different_sizes_do_not_make_a_batch():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\).*set patches"):
        stacked((torch.zeros(2, 4), [torch.zeros(2), torch.zeros(3)]))
