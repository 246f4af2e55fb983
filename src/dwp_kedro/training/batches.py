"""Batches of a training, each made ready in the background while the one before it is learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from dwp_kedro.training.transform import Column, Transform, short_seed, stacked


def compute_on_one_thread() -> None:
    """Let this thread compute without helpers of OpenMP: to be called first in one that runs beside steps.

    Steps on the CPU have a thread per core, so a second team makes more than there are cores. GNU's OpenMP then
    lets waiting threads sleep early (its ``throttled_spin_count``), those of the steps too. Other threads keep
    theirs. Matrix products of MKL keep to ``torch.set_num_threads`` where somebody called it.
    """
    torch.get_num_threads()  # else torch sets the number itself when it first computes here
    threadpool_limits(1, user_api="openmp")


class Batches:
    """Batches of a training's epochs, each made ready by ``thread`` during the step before its own.

    Args:
        data: columns of equal length, in the main memory or memory-mapped.
        rows: which rows of ``data`` an epoch goes through in random order; one may be named more than once.
        batch_size: rows in a batch; an epoch's last one may have fewer.
        order: gives the epochs' orders. Between two epochs it stands where the next one's is drawn, although
            that one's first batch may be on its way already: a training can be resumed from its state.
        transform: what is done to each batch; its seed depends on ``seed`` and the batch's step alone.
        seed: of the training.
        last_step: the number of steps after which no batch is needed.
        pin: page-lock the batches, so that copying them to a GPU does not keep the CPU waiting.
        thread: an executor with one worker. An error in it is raised where its batch is asked for.
    """

    def __init__(
        self,
        data: tuple[Column, ...],
        rows: Tensor,
        batch_size: int,
        *,
        order: torch.Generator,
        transform: Transform | None,
        seed: int,
        last_step: int,
        pin: bool,
        thread: Executor,
    ) -> None:
        self._data, self._rows, self._batch_size = data, rows, batch_size
        self._order, self._transform, self._seed = order, transform, seed
        self._last_step, self._pin, self._thread = last_step, pin, thread
        self._next: Future[tuple[Tensor, ...]] | None = None

    def epoch(self, step: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of the next epoch, which begins after ``step`` steps, or as many as are needed."""
        now = self._shuffled(self._order)
        upcoming = [*now[1:], self._shuffled(self._order.clone_state())[0]]
        for rows, following in zip(now, upcoming, strict=True):
            if step == self._last_step:
                return
            waiting = self._next or self._thread.submit(self._prepare, rows, step)
            batch = waiting.result()
            step += 1
            self._next = None
            if step < self._last_step:
                self._next = self._thread.submit(self._prepare, following, step)
            yield batch

    def _shuffled(self, order: torch.Generator) -> tuple[Tensor, ...]:
        return self._rows[torch.randperm(len(self._rows), generator=order)].split(self._batch_size)

    def _prepare(self, rows: Tensor, step: int) -> tuple[Tensor, ...]:
        taken = take_rows(self._data, rows)
        if self._transform is None:
            batch = stacked(taken)
        else:
            batch = self._transform(taken, short_seed(self._seed, f"transform of step {step}"))
        return tuple(tensor.pin_memory() for tensor in batch) if self._pin else batch


def take_rows(data: tuple[Column, ...], rows: Tensor) -> tuple[Column, ...]:
    """Return some rows of every column."""
    return tuple(c[rows] if isinstance(c, Tensor) else [c[row] for row in rows.tolist()] for c in data)
