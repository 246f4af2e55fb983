from __future__ import annotations

import pytest
import torch

from dwp_kedro.training.precision import best_precision, resolve_precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_tile": True, "amx_int8": True}, "32-true"),
        ({"architecture": "arm64"}, "32-true"),
    ],
)
def test_a_processor_needs_instructions_for_bfloat16(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert best_precision(torch.device("cpu")) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(monkeypatch, supported, expected):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert best_precision(torch.device("cuda", 0)) == expected


def test_other_devices_compute_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert best_precision(torch.device("mps")) == "32-true"


def test_small_volumes_are_float32_on_a_processor_and_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu, (9, 1, 24, 24, 24)) == "bf16-mixed"
    assert resolve_precision("bf16-mixed", cpu, (1, 24, 32, 64)) == "bf16-mixed"
    assert resolve_precision("32-true", cpu, (9, 1, 64, 64, 64)) == "32-true"
    assert resolve_precision("auto", cpu, (9, 1, 64, 16, 64)) == "32-true"
    with pytest.raises(ValueError, match=r"compute\.precision is bf16-mixed.*16×64×64.*auto or 32-true"):
        resolve_precision("bf16-mixed", cpu, (9, 1, 16, 64, 64))
    assert resolve_precision("bf16-mixed", torch.device("cuda", 0), (9, 1, 16, 16, 16)) == "bf16-mixed"


def test_kernels_are_always_float32():
    assert resolve_precision("bf16-mixed", torch.device("cuda", 0), (26640, 27)) == "32-true"
