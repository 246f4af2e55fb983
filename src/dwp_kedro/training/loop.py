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
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dwp_kedro.progress import log_metrics, report_progress
from dwp_kedro.training.batches import Batches, compute_on_one_thread, take_rows
from dwp_kedro.training.finiteness import (
    TrainingError,
    broken_gradient,
    broken_terms,
    broken_weights,
    is_finite,
)
from dwp_kedro.training.hardware import describe_device
from dwp_kedro.training.objective import Objective
from dwp_kedro.training.observer import Observer
from dwp_kedro.training.precision import resolve_precision
from dwp_kedro.training.schedulers import make_scheduler
from dwp_kedro.training.seeds import make_generator
from dwp_kedro.training.settings import Compute, Schedule
from dwp_kedro.training.state import capture, fingerprint, read_state, restore, write_state
from dwp_kedro.training.transform import Column, Transform


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
    gradient_norm: float | None = None,
    rows: Sequence[int] | None = None,
    transform: Transform | None = None,
    observer: Observer | None = None,
) -> History:
    """Minimise ``objective`` over ``data`` in place, with Adam, and say how it went.

    An epoch is a pass in random order over ``rows`` of ``data`` (columns of equal length, which stay in the main
    memory or on disk; a row may be named more than once; None: each once). Only the parameters that require a
    gradient move, each at the schedule's learning rate or the multiple of it that ``objective.rates`` says. That
    rate falls when the epoch's mean *data term* stops falling, or along a cosine (at whose end all are the least
    rate), or stays; nothing but ``data`` is looked at. ``transform`` changes each batch, in a background thread
    and while the batch before it is learnt from; rows of different sizes need one that makes them alike. The
    objective's gradient (without the penalty's) is scaled down to the Euclidean norm ``gradient_norm``, over all
    parameters together, where it is longer; None: never.

    Where ``compute`` names a state folder, a training of this name that was killed goes on from its last saved
    epoch, and gives on a CPU the same bits as an uninterrupted one.

    Raises:
        TrainingError: if a term of the objective, the gradient or a weight is not finite. The first two are seen
            before they could reach the weights. The message names term or layer, step, and the last saved state,
            which is kept.
    """
    fabric = make_fabric(compute, _shape(data, transform))
    # The gradient of l2·Σw² is 2·l2·w: Adam's weight decay (not AdamW's) is exactly that penalty.
    optimiser = torch.optim.Adam(_parameter_groups(objective, schedule.learning_rate), weight_decay=2 * l2)
    settings: dict[str, Any] = {"batch_size": batch_size, "schedule": schedule.as_dict(), "seed": seed, "l2": l2}
    settings |= {"gradient_norm": gradient_norm, "precision": _precision(fabric), "rows": rows}
    settings["objective"] = objective.settings()
    settings["trained"] = [name for name, p in objective.named_parameters() if p.requires_grad]
    settings["transform"] = None if transform is None else transform.settings()
    settings["observer"] = None if observer is None else observer.settings()
    made_of = fingerprint(settings, data, objective)
    module, prepared = fabric.setup(objective, optimiser)
    index = torch.arange(len(data[0])) if rows is None else torch.tensor(rows)
    run = _Run(fabric, module, prepared, schedule, gradient_norm, task, made_of, compute, observer)
    return run.finish(data, index, batch_size, seed, transform)


class _Run:
    """State and steps of one training."""

    def __init__(
        self,
        fabric: Fabric,
        module: Any,
        optimiser: Any,
        schedule: Schedule,
        gradient_norm: float | None,
        task: str,
        made_of: str,
        compute: Compute,
        observer: Observer | None,
    ) -> None:
        self.fabric, self.module, self.optimiser, self.schedule = fabric, module, optimiser, schedule
        self.gradient_norm, self.last_step, self.saved_step = gradient_norm, 0, 0
        self.task, self.made_of, self.compute, self.observer = task, made_of, compute, observer
        folder = compute.state_folder
        self.state_path: Path | None = None if folder is None else folder / f"{task.replace(' ', '_')}.safetensors"
        self.trained = {name: p for name, p in module.module.named_parameters() if p.requires_grad}
        self.scheduler = make_scheduler(schedule, optimiser.optimizer)

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
        self.last_step = self._last_step(math.ceil(len(rows) / batch_size))
        history, step = self._resume(generators)
        earlier, started, saved = history.seconds, time.monotonic(), time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        report_progress(self.task, step, self.last_step)
        initializer = compute_on_one_thread if device.type == "cpu" else None  # steps on a GPU leave the CPU to it
        with ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=initializer) as thread:
            batches = Batches(
                data,
                rows,
                batch_size,
                order=generators["order"],
                transform=transform,
                seed=seed,
                last_step=self.last_step,
                pin=device.type == "cuda",
                thread=thread,
            )
            while step < self.last_step and not self._rate_is_exhausted():
                row, step = self._epoch(batches, step, generators["noise"])
                history.rows.append({"step": step, **row})
                history.seconds = earlier + time.monotonic() - started
                log_metrics(row, step)
                if self.state_path and time.monotonic() - saved >= self.compute.state_every_seconds:
                    self._save(generators, history, step)
                    saved = time.monotonic()
        self._require_finite_weights(step)
        if step < self.last_step:  # the learning rate was exhausted first
            report_progress(self.task, self.last_step, self.last_step)
        history.seconds = earlier + time.monotonic() - started
        history.peak_memory_mb = _peak_memory_mb(device)
        if self.state_path:
            self.state_path.unlink(missing_ok=True)
        return history

    def _epoch(self, batches: Batches, step: int, noise: torch.Generator) -> tuple[dict[str, float], int]:
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
            report_progress(self.task, step, self.last_step, loss=terms["loss"])
        row = {name: total / seen for name, total in sums.items()}
        row["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(row["data_term"])
        return row, step

    def _step(self, batch: tuple[Tensor, ...], step: int, noise: torch.Generator) -> dict[str, float]:
        self.optimiser.zero_grad()
        # The objective itself, not Fabric's wrapper: that one asks a variable of the whole process whether the
        # backward pass is Fabric's, which another training's thread may have reset.
        with self.fabric.autocast():
            terms = self.module.module(*self.fabric.to_device(batch), step=step, generator=noise)
        values = {name: value.item() for name, value in terms.items()}
        if (cause := broken_terms(values)) is not None:
            raise self._stopped(f"{cause} in step {step + 1} of {self.last_step}", batch)
        self.fabric.backward(terms["loss"])
        norm = get_total_norm([p.grad for p in self.trained.values() if p.grad is not None]).item()
        if (cause := broken_gradient(norm, self.trained, values)) is not None:
            raise self._stopped(f"{cause} in step {step + 1} of {self.last_step}", batch)
        if self.gradient_norm is not None:
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=self.gradient_norm)
        self.optimiser.step()
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        return {**values, "gradient_norm": norm}

    def _stopped(self, cause: str, batch: tuple[Tensor, ...] = ()) -> TrainingError:
        """Say why the training stops, what is kept of it, and what to do."""
        kept = "No state of it had been saved yet"
        if self.saved_step:
            kept = f"Its last good state, after step {self.saved_step}, is kept in {self.state_path}"
        mend = "lower its learning rate, or set gradient_norm in its block of parameters"
        if not is_finite(batch):
            mend = "the batch itself holds values that are not finite: check the preprocessed volumes"
        return TrainingError(f"{self.task}: {cause}. {kept}. To mend it: {mend}.")

    def _require_finite_weights(self, step: int) -> None:
        """Refuse weights that a finite gradient and a huge learning rate have made."""
        if (cause := broken_weights(self.module.module)) is not None:
            raise self._stopped(f"{cause} after step {step} of {self.last_step}")

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
        for group, rate in zip(self.optimiser.param_groups, progress["learning_rates"], strict=True):
            group["lr"] = rate
        self.saved_step = progress["step"]
        device, precision = describe_device(self.fabric.device), _precision(self.fabric)
        return History(device, precision, progress["history"], progress["seconds"]), progress["step"]

    def _save(self, generators: dict[str, torch.Generator], history: History, step: int) -> None:
        assert self.state_path is not None
        self._require_finite_weights(step)
        progress = {
            "step": step,
            "history": history.rows,
            "seconds": history.seconds,
            "learning_rates": [group["lr"] for group in self.optimiser.param_groups],
            "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if _is_plain(v)},
        }
        observed = {} if self.observer is None else self.observer.state_dict()
        state = capture(self.module.module, self.optimiser.optimizer, generators, observed, progress)
        write_state(state, self.state_path, self.made_of)
        self.saved_step = step


def _parameter_groups(objective: Objective, learning_rate: float) -> list[dict[str, Any]]:
    """Parameters that train, by their learning rate; those at the schedule's own come first."""
    rates, groups = objective.rates(), dict[float, list[nn.Parameter]]()
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(rates.get(name, 1.0), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda group: group[0] != 1)
    return [{"params": members, "lr": learning_rate * rate, "rate": rate} for rate, members in ordered]


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
