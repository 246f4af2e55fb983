"""What docs/architecture.md says of who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "dwp_kedro"
MAY_IMPORT = {
    "networks": set(),
    "bayes": {"networks"},
    "training": {"bayes", "networks", "progress", "atomic_write"},
    "parameters": set(),
    "lineage": {"atomic_write"},
    "imaging": {"parameters", "atomic_write"},
    "cohorts": {"imaging", "parameters", "progress", "atomic_write", "printable"},
    "evaluation": {"imaging", "progress"},
    "datasets": {"networks", "bayes", "imaging", "evaluation", "atomic_write"},
    "pipelines": {
        "networks", "bayes", "training", "imaging", "cohorts", "evaluation", "lineage", "parameters",
        "progress", "printable",
    },
    "tracking": {"lineage", "parameters", "progress", "atomic_write", "printable"},
}  # fmt: skip


def imported_rooms(file: Path) -> set[str]:
    names: set[str] = set()
    for statement in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{file} has a relative import"
            module = statement.module or ""
            names |= {f"{module}.{alias.name}" if module == "dwp_kedro" else module for alias in statement.names}
        elif isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
    return {name.split(".")[1] for name in names if name.startswith("dwp_kedro.")}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_rooms_below(room: str) -> None:
    for file in (PACKAGE / room).rglob("*.py"):
        foreign = imported_rooms(file) - {room, "__version__"}
        assert foreign <= MAY_IMPORT[room], f"{file} imports {foreign - MAY_IMPORT[room]}"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_page_says_the_same(room: str) -> None:
    page = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{room}/` \|.*\| (.*) \|$", page, flags=re.MULTILINE)
    assert row is not None, f"docs/architecture.md has no row for {room}"
    if room in {"datasets", "pipelines"}:
        return  # there it is said in words
    assert set(re.findall(r"`(\w+)`", row[1])) == MAY_IMPORT[room]


def test_core_imports_without_kedro_and_mlflow() -> None:
    core = [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for room in ("networks", "bayes", "training")
        for file in sorted((PACKAGE / room).glob("*.py"))
    ]
    program = f"""
import importlib, sys
for name in {core}:
    importlib.import_module(name)
print([name for name in ("kedro", "mlflow", "monai", "nibabel", "pydantic") if name in sys.modules])
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
