"""No code of the package, and no entry of the catalog, can run what a file holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted([*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py")])
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "runpy"}
# By the last two words of what is called; (None, name) is a name alone.
CALLS = {
    (None, "eval"), (None, "exec"), (None, "compile"), (None, "__import__"),
    ("torch", "load"), ("jit", "load"), ("hub", "load"), ("pyfunc", "load_model"), ("pytorch", "load_model"),
    ("np", "load"), ("numpy", "load"), ("pd", "read_pickle"), ("pandas", "read_pickle"),
    ("yaml", "load"), ("yaml", "load_all"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("os", "system"),
}  # fmt: skip


def dangers(source: str) -> Iterator[str]:
    """Imports of modules that unpickle or run code, and calls that do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (name for name in names if name.split(".")[0] in MODULES)
            if isinstance(node, ast.ImportFrom):
                last = (node.module or "").split(".")[-1]
                yield from (f"{last}.{a.name}" for a in node.names if (last, a.name) in CALLS)
        elif isinstance(node, ast.Call):
            words = ast.unparse(node.func).split(".")
            if (words[-2] if len(words) > 1 else None, words[-1]) in CALLS and words[0] != "safetensors":
                yield ".".join(words)
            for keyword in node.keywords:
                is_true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                if is_true and keyword.arg in {"shell", "allow_pickle"}:
                    yield f"{keyword.arg}=True"


def test_no_source_loads_what_could_run() -> None:
    assert len(SOURCES) > 100
    found = {file.name: list(dangers(file.read_text(encoding="utf-8"))) for file in SOURCES}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)", "from torch import load", "import pickle", "import a, cloudpickle.b", "eval(text)",
        "from joblib import dump", "yaml.load(text)", "mlflow.pyfunc.load_model(uri)", "run(x, shell=True)",
        "np.load(file, allow_pickle=True)",
    ],
)  # fmt: skip
def test_the_scan_sees(line: str) -> None:
    assert list(dangers(line))


@pytest.mark.parametrize(
    "line",
    ["network.eval()", "safetensors.torch.load(b)", "json.load(file)", "OmegaConf.load(f)", "re.compile(p)"],
)
def test_the_scan_lets_pass(line: str) -> None:
    assert not list(dangers(line))


def test_no_entry_of_the_catalog_is_a_pickle() -> None:
    catalogs = sorted((REPOSITORY / "conf").rglob("catalog*.yml"))
    assert catalogs
    assert not [file.name for file in catalogs if "pickle" in file.read_text(encoding="utf-8").lower()]
