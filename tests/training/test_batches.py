from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from dwp_kedro.training.batches import Batches
from dwp_kedro.training.seeds import make_generator

ROWS = torch.tensor([3, 3, 5, 6, 9])
DATA = (torch.arange(10.0), torch.arange(10) * 10)
WAIT = 20  # s; only a wrong implementation waits that long


class Recording:
    """Adds the seed's fraction to the first tensor, and remembers seeds, threads and what was asked for."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.threads: set[str] = set()
        self.done = [threading.Event() for _ in range(50)]

    def __call__(self, batch, seed):
        self.threads.add(threading.current_thread().name)
        self.seeds.append(seed)
        self.done[len(self.seeds) - 1].set()
        return batch[0] + seed / 2**32, batch[1]

    def settings(self):
        return {}


@pytest.fixture
def thread():
    with ThreadPoolExecutor(1, thread_name_prefix="background") as executor:
        yield executor


def _batches(thread, *, transform=None, seed=0, last_step=100, order=None, data=DATA) -> Batches:
    order = make_generator(seed, "order") if order is None else order
    return Batches(
        data, ROWS, 2, order=order, transform=transform, seed=seed, last_step=last_step, pin=False, thread=thread
    )


def test_epochs_are_plain_passes_in_random_order(thread):
    batches, order = _batches(thread, seed=4), make_generator(4, "order")
    for epoch in range(3):
        expected = ROWS[torch.randperm(5, generator=order)].split(2)
        found = list(batches.epoch(3 * epoch))
        assert [len(x) for x, _ in found] == [2, 2, 1]
        for (x, y), rows in zip(found, expected, strict=True):
            assert torch.equal(x, DATA[0][rows])
            assert torch.equal(y, DATA[1][rows])


def test_between_epochs_the_order_is_where_a_resumed_training_needs_it(thread):
    """The next epoch's first batch is on its way by then: its order must not have been taken out already."""
    first = _batches(thread)
    list(first.epoch(0))
    order = torch.Generator()
    order.set_state(first._order.get_state())
    resumed = list(_batches(thread, order=order).epoch(3))
    for (x, _), (y, _) in zip(first.epoch(3), resumed, strict=True):
        assert torch.equal(x, y)


def test_each_batch_is_made_ready_during_the_step_before_it_and_no_earlier(thread):
    transform = Recording()
    batches, step = _batches(thread, transform=transform, last_step=7), 0
    while step < 7:
        for _ in batches.epoch(step):
            step += 1
            if step < 7:
                assert transform.done[step].wait(WAIT), "the next batch, of the next epoch too, is made meanwhile"
            assert not transform.done[step + 1].wait(0.01)
    assert len(transform.seeds) == 7, "nothing is made that no step needs"
    assert transform.threads == {"background_0"}


def _seeds(thread, *, seed: int, start: int, end: int) -> list[int]:
    """Seeds that the transform got in the steps from ``start`` to ``end``; each must act on its own batch."""
    transform = Recording()
    batches, changes, step = _batches(thread, transform=transform, seed=seed, last_step=end), [], start
    while step < end:
        for x, _ in batches.epoch(step):
            step += 1
            changes.append(x.frac())
    for change, given in zip(changes, transform.seeds, strict=True):
        torch.testing.assert_close(change, torch.full_like(change, given / 2**32), atol=1e-5, rtol=0)
    return transform.seeds


def test_the_seed_of_a_transform_depends_on_the_training_and_the_step_alone(thread):
    whole = _seeds(thread, seed=0, start=0, end=6)
    assert _seeds(thread, seed=0, start=3, end=6) == whole[3:]
    assert len({*whole, *_seeds(thread, seed=1, start=0, end=6)}) == 12, "no two alike"
    assert all(0 <= seed < 2**32 for seed in whole)


def test_an_error_comes_with_its_own_batch(thread):
    class Broken(Recording):
        def __call__(self, batch, seed):
            if len(self.seeds) == 2:
                raise ZeroDivisionError("in the transform")
            return super().__call__(batch, seed)

    taken = []
    with pytest.raises(ZeroDivisionError, match="in the transform"):
        taken.extend(iter(_batches(thread, transform=Broken()).epoch(0)))
    assert len(taken) == 2


def test_rows_one_by_one_make_the_same_batches_as_a_tensor(thread):
    data = ([*DATA[0]], DATA[1])
    for found, expected in zip(_batches(thread, data=data).epoch(0), _batches(thread).epoch(0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_transform_gets_rows_of_different_sizes_as_they_are(thread):
    class Shorten(Recording):
        def __call__(self, batch, seed):
            assert isinstance(batch[0], list)
            return torch.stack([row[:2] for row in batch[0]]), batch[1]

    data = ([torch.arange(2.0 + row) + row for row in range(10)], DATA[1])
    for rows, labels in _batches(thread, data=data, transform=Shorten()).epoch(0):
        assert torch.equal(rows[:, 0], labels / 10)
        assert torch.equal(rows[:, 1], labels / 10 + 1)
