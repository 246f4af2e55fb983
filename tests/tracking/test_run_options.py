from __future__ import annotations

import shlex
from typing import Any

import pytest
from kedro.framework.cli.project import run

from dwp_kedro.tracking.run_options import run_options


def _options(env: str | None = None, **runtime_params: Any) -> str:
    return run_options({"env": env, "runtime_params": runtime_params})


def test_a_run_without_options_has_none():
    assert _options() == run_options({"env": None, "runtime_params": None}) == ""
    assert _options("test") == " --env test"


def test_what_one_pipeline_alone_is_told_is_left_out():
    given = {"prior": "ms.safetensors", "output": "out", "images": "new", "checkpoint": "dwp.n2_split0_seed0"}
    assert _options("glioma", **given) == " --env glioma --params prior=ms.safetensors"
    assert _options(output="prior.safetensors", source_network=True, overwrite=True) == ""


@pytest.mark.parametrize(
    "given",
    [
        {"prior": "received priors/of A.safetensors", "data_root": "/data/scans"},
        {"compute": {"device": "cpu", "state_every_seconds": 5}, "grid": {"n_train": None}, "x": True, "y": 0.5},
    ],
)
def test_kedro_reads_the_same_again(given: dict[str, Any]):
    arguments = shlex.split(_options("test", **given))
    read = run.make_context("run", arguments, resilient_parsing=False).params
    assert (read["params"], read["env"]) == (given, "test")
