"""The one training loop: source networks, kernel VAEs and target networks all go through it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ReduceLROnPlateau

from dwp_kedro.progress import log_metrics, report_progress
from dwp_kedro.training.batches import Batches, take_rows
from dwp_kedro.training.hardware import describe_device
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.precision import resolve_precision
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.state import capture, fingerprint, read_state, restore, write_state
from dwp_kedro.training.transform import Column, Transform


class TrainingError(RuntimeError):
    """A training cannot go on."""


@dataclass
class History:
    """One entry per epoch: the optimiser step at its end and the epoch's mean of each curve.

    ``device`` and ``precision`` are those trained on and in, which ``auto`` was resolved to; the first in words.
    """

    device: str
    precision: str
    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


class Observer(Protocol):
    """Watches a training from step to step; what it gathers is saved and put back with the training's state."""

    def after_step(self, step: int) -> None:
        """Look at the weights that the training's step number ``step`` has made; the first is 1."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that was gathered so far."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put back what was gathered."""

    def settings(self) -> dict[str, Any]:
        """Plain values that it depends on: a resumed training needs the same."""


def make_fabric(compute: Compute, shape: Sequence[int]) -> Fabric:
    """Return a Fabric on one device, in the precision for it and for data of ``shape``.

    As device, ``auto`` takes a GPU where torch sees one; the precision is that of :func:`resolve_precision`.
    """
    accelerator, _, index = compute.device.partition(":")
    fabric_in = partial(Fabric, accelerator=accelerator, devices=[int(index)] if index else 1)
    return fabric_in(precision=resolve_precision(compute.precision, fabric_in().device, shape))


def train(
    objective: Objective,
    data: tuple[Column, ...],
    *,
    task: str,
    batch_size: int,
    schedule: Schedule,
    seed: int,
    compute: Compute,
    l2: float = 0.0,
    rows: Sequence[int] | None = None,
    transform: Transform | None = None,
    observer: Observer | None = None,
) -> History:
    """Minimise ``objective`` over ``data`` in place, with Adam, and say how it went.

    An epoch is a pass in random order over ``rows`` of ``data`` (columns of equal length, which stay in the main
    memory or on disk; a row may be named more than once; None: each once). Only the parameters that require a
    gradient move. The learning rate falls when the epoch's mean *data term* stops falling, or along a cosine, or
    stays; nothing but ``data`` is looked at. ``transform`` changes each batch, in a background thread and while
    the batch before it is learnt from; rows of different sizes need one that makes them alike.

    Where ``compute`` names a state folder, a training of this name that was killed goes on from its last saved
    epoch, and gives on a CPU the same bits as an uninterrupted one.

    Raises:
        TrainingError: if the loss is not finite; the message names the terms and the step.
    """
    fabric = make_fabric(compute, _shape(data, transform))
    parameters = [p for p in objective.parameters() if p.requires_grad]
    # The gradient of l2·Σw² is 2·l2·w: Adam's weight decay (not AdamW's) is exactly that penalty.
    optimiser = torch.optim.Adam(parameters, lr=schedule.learning_rate, weight_decay=2 * l2)
    settings: dict[str, Any] = {"batch_size": batch_size, "schedule": schedule.as_dict(), "seed": seed, "l2": l2}
    settings |= {"precision": _precision(fabric), "objective": objective.settings(), "rows": rows}
    settings["trained"] = [name for name, p in objective.named_parameters() if p.requires_grad]
    settings["transform"] = None if transform is None else transform.settings()
    settings["observer"] = None if observer is None else observer.settings()
    made_of = fingerprint(settings, data, objective)
    module, prepared = fabric.setup(objective, optimiser)
    index = torch.arange(len(data[0])) if rows is None else torch.tensor(rows)
    run = _Run(fabric, module, prepared, schedule, task, made_of, compute, observer)
    return run.finish(data, index, batch_size, seed, transform)


class _Run:
    """State and steps of one training."""

    def __init__(
        self,
        fabric: Fabric,
        module: Any,
        optimiser: Any,
        schedule: Schedule,
        task: str,
        made_of: str,
        compute: Compute,
        observer: Observer | None,
    ) -> None:
        self.fabric, self.module, self.optimiser, self.schedule = fabric, module, optimiser, schedule
        self.task, self.made_of, self.compute, self.observer = task, made_of, compute, observer
        folder = compute.state_folder
        self.state_path: Path | None = None if folder is None else folder / f"{task.replace(' ', '_')}.safetensors"
        self.scheduler: ReduceLROnPlateau | CosineAnnealingLR | ConstantLR
        if schedule.kind == "plateau":
            self.scheduler = ReduceLROnPlateau(
                optimiser.optimizer,
                factor=schedule.factor,
                patience=schedule.patience,
                threshold=schedule.threshold,
                threshold_mode="abs",  # a share of a negative data term, as kernel VAEs have, would be no progress
                min_lr=schedule.min_learning_rate,
            )
        elif schedule.kind == "cosine":
            assert schedule.max_steps is not None
            self.scheduler = CosineAnnealingLR(
                optimiser.optimizer, T_max=schedule.max_steps, eta_min=schedule.min_learning_rate
            )
        else:
            self.scheduler = ConstantLR(optimiser.optimizer, factor=1.0)

    def finish(
        self,
        data: tuple[Column, ...],
        rows: Tensor,
        batch_size: int,
        seed: int,
        transform: Transform | None,
    ) -> History:
        """Train from the start, or from the saved state, to the end."""
        device = self.fabric.device
        generators = {"order": make_generator(seed, "order"), "noise": make_generator(seed, "noise", device)}
        last_step = self._last_step(math.ceil(len(rows) / batch_size))
        history, step = self._resume(generators)
        earlier, started, saved = history.seconds, time.monotonic(), time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        report_progress(self.task, step, last_step)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            batches = Batches(
                data,
                rows,
                batch_size,
                order=generators["order"],
                transform=transform,
                seed=seed,
                last_step=last_step,
                pin=device.type == "cuda",
                thread=thread,
            )
            while step < last_step and not self._rate_is_exhausted():
                row, step = self._epoch(batches, step, last_step, generators["noise"])
                history.rows.append({"step": step, **row})
                history.seconds = earlier + time.monotonic() - started
                log_metrics(row, step)
                if self.state_path and time.monotonic() - saved >= self.compute.state_every_seconds:
                    self._save(generators, history, step)
                    saved = time.monotonic()
        if step < last_step:  # the learning rate was exhausted first
            report_progress(self.task, last_step, last_step)
        history.seconds = earlier + time.monotonic() - started
        history.peak_memory_mb = _peak_memory_mb(device)
        if self.state_path:
            self.state_path.unlink(missing_ok=True)
        return history

    def _epoch(
        self, batches: Batches, step: int, last_step: int, noise: torch.Generator
    ) -> tuple[dict[str, float], int]:
        """Go once through the rows; return the epoch's means and the step at its end."""
        sums: dict[str, float] = {}
        seen = 0
        for batch in batches.epoch(step):
            terms = self._step(batch, step, noise)
            step += 1
            if self.observer is not None:
                self.observer.after_step(step)
            seen += len(batch[0])
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch[0])
            report_progress(self.task, step, last_step, loss=terms["loss"])
        row = {name: total / seen for name, total in sums.items()}
        row["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(row["data_term"])
        return row, step

    def _step(self, batch: tuple[Tensor, ...], step: int, noise: torch.Generator) -> dict[str, float]:
        self.optimiser.zero_grad()
        terms = self.module(*self.fabric.to_device(batch), step=step, generator=noise)
        values = {name: value.item() for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            raise TrainingError(
                f"{self.task}: {', '.join(broken)} not finite at step {step}. Lower schedule.learning_rate, or "
                "check the preprocessed volumes of the subjects trained on."
            )
        self.fabric.backward(terms["loss"])
        self.optimiser.step()
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        return values

    def _last_step(self, steps_per_epoch: int) -> int:
        if self.schedule.kind != "plateau":
            assert self.schedule.max_steps is not None
            return self.schedule.max_steps
        steps = self.schedule.max_epochs * steps_per_epoch
        return steps if self.schedule.max_steps is None else min(steps, self.schedule.max_steps)

    def _rate_is_exhausted(self) -> bool:
        if self.schedule.kind != "plateau":
            return False
        return self.optimiser.param_groups[0]["lr"] <= self.schedule.min_learning_rate * (1 + 1e-9)

    def _resume(self, generators: dict[str, torch.Generator]) -> tuple[History, int]:
        state = None if self.state_path is None else read_state(self.state_path, self.made_of)
        if state is None:
            return History(describe_device(self.fabric.device), _precision(self.fabric)), 0
        restore(state, self.module.module, self.optimiser.optimizer, generators)
        if self.observer is not None:
            self.observer.load_state_dict(state.part("observer/"))
        progress = state.progress
        self.scheduler.load_state_dict(progress["scheduler"])
        for group in self.optimiser.param_groups:
            group["lr"] = progress["learning_rate"]
        device, precision = describe_device(self.fabric.device), _precision(self.fabric)
        return History(device, precision, progress["history"], progress["seconds"]), progress["step"]

    def _save(self, generators: dict[str, torch.Generator], history: History, step: int) -> None:
        assert self.state_path is not None
        progress = {
            "step": step,
            "history": history.rows,
            "seconds": history.seconds,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if _is_plain(v)},
        }
        observed = {} if self.observer is None else self.observer.state_dict()
        state = capture(self.module.module, self.optimiser.optimizer, generators, observed, progress)
        write_state(state, self.state_path, self.made_of)


def _shape(data: tuple[Column, ...], transform: Transform | None) -> Sequence[int]:
    """Shape of what the objective sees first in a batch."""
    if isinstance(data[0], Tensor):
        return data[0].shape
    first = take_rows(data, torch.tensor([0]))
    return first[0][0].shape if transform is None else transform(first, 0)[0].shape


def _precision(fabric: Fabric) -> str:
    return str(fabric.strategy.precision.precision)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | list | None)


def _peak_memory_mb(device: torch.device) -> float:
    """Peak memory: of the GPU since the training began, or of the whole process on a CPU; MiB, 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return 0.0
    import resource  # there is none on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
