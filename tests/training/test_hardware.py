from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dwp_kedro.training import hardware


def test_a_processor_is_named_with_the_threads_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_LINUX", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A: 7\n\nprocessor\t: 1\nmodel name\t: A: 7\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert hardware.describe_device(torch.device("cpu")) == "A: 7 (cpu), 2 threads"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert hardware.describe_device(torch.device("cpu")) == "A: 7 (cpu), 1 thread"


def test_elsewhere_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_LINUX", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert hardware.processor_name() == "arm64"
    (tmp_path / "cpuinfo").write_text("Hardware\t: a board\n")  # as Linux on ARM says it
    assert hardware.processor_name() == "arm64"


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU number {device.index}")
    assert hardware.describe_device(torch.device("cuda", 1)) == "GPU number 1 (cuda:1)"
