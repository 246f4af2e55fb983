from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from importlib.metadata import version
from pathlib import Path

import pytest

from dwp_kedro.lineage.code import Code, Sources

SOURCES = {
    "__init__.py": '__version__ = "1"\n',
    "nodes.py": '''
"""Nodes."""
from __future__ import annotations

import torch
import pandas as pd

import made_up
from made_up import tools
from made_up.parts import Shape, area  # of which one is used
from made_up.settings import Settings


def train(settings: Settings, shape: Shape) -> float:
    """Train."""
    from made_up.late import wait
    # a comment
    wait(made_up.__version__)
    return tools.double(settings.rate) + torch.ones(1).item()


def draw(table: pd.DataFrame) -> float:
    return area(1) + len(table)
''',
    "parts/__init__.py": "from made_up.parts.shapes import Shape, area\n",
    "parts/shapes.py": '''
FACTOR = 3
"""Of areas."""


class Shape:
    def side(self) -> int:
        return FACTOR


def area(side: int) -> int:
    return side * side
''',
    "settings.py": """
from pydantic import BaseModel, Field


class Settings(BaseModel):
    rate: float = Field(default=0.1, description="Of learning.")
""",
    "tools.py": """
from pathlib import Path

TEXT = Path(__file__).with_name("page.html")


def double(x: float) -> float:
    return 2 * x + len(TEXT.read_text())


def triple(x: float) -> float:
    return 3 * x
""",
    "late.py": "def wait(word: str) -> None:\n    return None\n",
    "page.html": "<p>",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "made_up"
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "made_up"]:
        del sys.modules[name]


def code(name: str = "train") -> Code:
    function: Callable[..., float] = getattr(importlib.import_module("made_up.nodes"), name)
    return Sources().code_of(function)


def test_modules_and_libraries_that_a_function_runs_through(package: Path):
    names = {"nodes", "parts.shapes", "settings", "tools", "late"}
    assert code().modules.keys() == {f"made_up.{name}" for name in names}
    assert code().libraries == {"torch": version("torch").partition("+")[0]}
    assert code("draw").modules.keys() == {"made_up.nodes", "made_up.parts.shapes"}
    assert code("draw").libraries == {}


def test_a_bound_function_has_the_code_of_its_function(package: Path):
    train = importlib.import_module("made_up.nodes").train
    assert Sources().code_of(update_wrapper(partial(train, settings=None), train)) == code()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("nodes.py", '"""Train."""', '"""Trains a network."""'),
        ("nodes.py", "    # a comment\n", "\n\n"),
        ("nodes.py", "area(1)", "area(2)"),  # another function's
        ("__init__.py", '"1"', '"2"'),
        ("parts/shapes.py", '"""Of areas."""', ""),
        ("parts/shapes.py", "side * side", "side"),
        ("parts/__init__.py", "import Shape, area", "import area, Shape"),
        ("settings.py", "Of learning.", "Of the optimiser."),
        ("tools.py", "3 * x", "4 * x"),
    ],
)
def test_what_a_function_does_not_run_does_not_count(package: Path, file: str, old: str, new: str):
    before = code()
    (package / file).write_text(SOURCES[file].replace(old, new))
    assert SOURCES[file] != (package / file).read_text()
    assert code() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("nodes.py", "settings.rate", "-settings.rate", "nodes"),
        ("parts/shapes.py", "return FACTOR", "return 4", "parts.shapes"),  # of an annotation's class
        ("parts/shapes.py", "FACTOR = 3", "FACTOR = 4", "parts.shapes"),
        ("settings.py", "0.1", "0.2", "settings"),
        ("tools.py", "2 * x", "3 * x", "tools"),
        ("late.py", "None\n", "1\n", "late"),
        ("page.html", "<p>", "<div>", "tools"),
    ],
)
def test_a_change_of_what_it_runs_is_named_by_its_module(package: Path, file: str, old: str, new: str, named: str):
    before = code().modules
    (package / file).write_text(SOURCES[file].replace(old, new))
    after = code().modules
    assert {name for name in after if after[name] != before[name]} == {f"made_up.{named}"}


def test_sources_are_read_once(package: Path):
    sources = Sources()
    train = importlib.import_module("made_up.nodes").train
    before = sources.code_of(train)
    (package / "tools.py").write_text(SOURCES["tools.py"].replace("2 * x", "3 * x"))
    assert sources.code_of(train) == before
