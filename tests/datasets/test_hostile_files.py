"""Files of weights that are none: pickles in disguise, and safetensors whose header lies. No code runs."""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from dwp_kedro.datasets import CheckpointDataset, CheckpointsDataset, KernelTensorDataset
from dwp_kedro.datasets.safetensors_file import encode_safetensors
from dwp_kedro.training.state import StateError, read_state


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.proof,)


def torch_zip(proof: Path, path: Path) -> None:
    torch.save({"weight": Payload(proof)}, path)


def torch_old(proof: Path, path: Path) -> None:
    torch.save({"weight": Payload(proof)}, path, _use_new_zipfile_serialization=False)


def raw_pickle(proof: Path, path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(proof)))


def pickle_as_metadata(proof: Path, path: Path) -> None:
    path.write_bytes(whole(metadata=pickle.dumps(Payload(proof), protocol=0).decode("latin-1")))


def whole(header: Any = None, data: bytes = bytes(8), length: int | None = None, metadata: Any = "{}") -> bytes:
    """A safetensors file of one tensor, with a header of one's own."""
    if header is None:
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        header = {"__metadata__": {"metadata": metadata}, "w": entry}
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


READERS: dict[str, Callable[[Path], object]] = {
    "checkpoint": lambda path: CheckpointDataset(filepath=str(path)).load(),
    "checkpoints": lambda path: CheckpointsDataset(filepaths=[str(path)]).load(),
    "preview": lambda path: CheckpointDataset(filepath=str(path)).preview(),
    "kernels": lambda path: KernelTensorDataset(filepath=str(path)).load(),
    "state": lambda path: read_state(path, "made of"),
}


@pytest.mark.parametrize("disguise", [torch_zip, torch_old, raw_pickle, pickle_as_metadata])
@pytest.mark.parametrize("reader", READERS)
def test_a_pickle_in_disguise_runs_nothing(tmp_path: Path, disguise: Callable[..., None], reader: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / "weights.safetensors"
    disguise(proof, path)
    if reader == "state" and disguise is pickle_as_metadata:
        assert read_state(path, "made of") is None, "a state of another training"
    else:
        with pytest.raises((DatasetError, StateError), match=r"weights\.safetensors"):
            READERS[reader](path)
    assert not proof.exists()
    if disguise is not pickle_as_metadata:  # which no reader would unpickle, whatever it used
        with path.open("rb") as stream:
            pickle.load(stream) if disguise is raw_pickle else torch.load(stream, weights_only=False)
        assert proof.exists(), "the payload works"


def entry(**changes: Any) -> dict[str, Any]:
    values = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return {"__metadata__": {"metadata": "{}"}, "w": values}


BAD_FILES: dict[str, bytes] = {
    "length beyond the file": whole(length=10**6),
    "length beyond the format": whole(length=2**63),
    "no JSON": whole(b"{" * 64),
    "a list": whole([1, 2]),
    "nested deep": whole(b'{"w":' + b"[" * 200_000),
    "metadata no object": whole({"__metadata__": "metadata", "w": entry()["w"]}),
    "metadata a number": whole(metadata=5),
    "metadata no JSON": whole(metadata="{"),
    "metadata a list": whole(metadata="[]"),
    "metadata nested deep": whole(metadata="[" * 200_000),
    "no metadata": whole({"w": entry()["w"]}),
    "unknown data type": whole(entry(dtype="F12")),
    "data type that torch lacks": whole(entry(dtype="F8_E8M0", shape=[8])),
    "offsets beyond the file": whole(entry(shape=[2**20], data_offsets=[0, 2**22])),
    "offsets reversed": whole(entry(data_offsets=[8, 0])),
    "offsets that leave a gap": whole(entry(data_offsets=[4, 12]), bytes(12)),
    "an enormous shape": whole(entry(shape=[2**31, 2**31, 2**31])),
    "a negative shape": whole(entry(shape=[-2])),
    "a tensor that is none": whole({"__metadata__": {"metadata": "{}"}, "w": 3}),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("reader", ["checkpoint", "kernels"])
def test_a_header_that_lies_is_refused_in_little_memory(tmp_path: Path, kind: str, reader: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(BAD_FILES[kind])
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"weights\.safetensors") as caught:
        READERS[reader](path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert caught.value.__cause__ is None, "so it is told without a traceback"


@pytest.mark.parametrize("kind", ["length beyond the file", "no JSON", "unknown data type", "nested deep"])
def test_a_damaged_state_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.state").write_bytes(BAD_FILES[kind])
    with pytest.raises(StateError, match=r"a\.state is no whole state .* Delete it"):
        read_state(tmp_path / "a.state", "made of")


def test_a_state_whose_progress_is_no_json_is_named(tmp_path: Path) -> None:
    header = {"__metadata__": {"made_of": "made of", "progress": "{"}, "w": entry()["w"]}
    (tmp_path / "a.state").write_bytes(whole(header))
    with pytest.raises(StateError, match=r"a\.state"):
        read_state(tmp_path / "a.state", "made of")


INDEX = torch.zeros(2, dtype=torch.int64)
KERNELS = {
    "kernels": torch.zeros(2, 3, 3, 3), "network": INDEX, "layer": INDEX, "output_channel": INDEX,
    "input_channel": INDEX,
}  # fmt: skip
NAMES: dict[str, Any] = {"networks": ["a"], "layers": ["b"]}
BAD_KERNELS = {
    "half precision": (KERNELS | {"kernels": KERNELS["kernels"].half()}, NAMES, "kernels are torch.float16"),
    "another shape": (KERNELS | {"kernels": torch.zeros(2, 27)}, NAMES, r"\(2, 27\), not float32"),
    "a number": (KERNELS | {"kernels": torch.zeros(())}, NAMES, "not float32"),
    "fractions as index": (KERNELS | {"layer": torch.zeros(2)}, NAMES, "layer is torch.float32"),
    "rows missing": (KERNELS | {"input_channel": INDEX[:1]}, NAMES, r"input_channel is torch.int64 \(1,\)"),
    "index too high": (KERNELS | {"network": INDEX + 1}, NAMES, "network points outside its 1 names"),
    "index below 0": (KERNELS | {"layer": INDEX - 1}, NAMES, "layer points outside its 1 names"),
    "names no list": (KERNELS, NAMES | {"layers": "bb"}, "layers are no list of names"),
    "names no text": (KERNELS, NAMES | {"networks": [{}]}, "networks are no list of names"),
}


@pytest.mark.parametrize("kind", BAD_KERNELS)
def test_kernels_that_are_none_are_refused(tmp_path: Path, kind: str) -> None:
    tensors, metadata, problem = BAD_KERNELS[kind]
    path = tmp_path / "group_1.safetensors"
    path.write_bytes(encode_safetensors(tensors, metadata))
    with pytest.raises(DatasetError, match=rf"group_1\.safetensors holds no kernels.*{problem}"):
        KernelTensorDataset(filepath=str(path)).load()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["w", "dtype", "x"]), inner),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I64", "BOOL", "F4", "C64", "?"]) | JSON,
        "shape": st.lists(st.integers(-1, 2**40), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 40), min_size=2, max_size=2) | JSON,
    }
)
HEADER = st.fixed_dictionaries(
    {"w": ENTRY | JSON}, optional={"__metadata__": st.fixed_dictionaries({"metadata": st.text(max_size=9)}) | JSON}
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(header=HEADER | JSON | st.binary(max_size=40), data=st.binary(max_size=24))
def test_any_header(tmp_path_factory: pytest.TempPathFactory, header: Any, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(whole(header, data))
    for read in READERS.values():
        try:
            read(path)
        except (DatasetError, StateError) as error:
            told = str(error)
        else:
            continue
        assert "any.safetensors" in told
