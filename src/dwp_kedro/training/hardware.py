"""What computes, in words."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

_LINUX = Path("/proc/cpuinfo")


def describe_device(device: torch.device) -> str:
    """Name the hardware of a device: a GPU, or the processor with the threads that torch uses of it.

    Threads are those of this process, now.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{processor_name()} (cpu), {threads} {'thread' if threads == 1 else 'threads'}"
    return str(device)


def processor_name() -> str:
    """Name this machine's processor, as far as its system tells."""
    if _LINUX.is_file():  # where Python knows the kind of processor only, such as x86_64
        for line in _LINUX.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
