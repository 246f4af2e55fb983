from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager, _register_hooks
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, SequentialRunner

from dwp_kedro.tracking.lineage_hook import LineageHook


class _Ran:
    def __init__(self) -> None:
        self.names: list[str] = []

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        self.names.append(node.name)


class Project:
    """A pipeline with text files, run as a session does, each time with a catalog of its own."""

    def __init__(self, folder: Path, whole: Pipeline, **parameters: Any) -> None:
        self.folder = folder
        self.whole = whole
        self.parameters = parameters
        self.datasets: dict[str, Any] = {}

    def run(
        self, pipeline: Pipeline | None = None, *, resumes: bool = True, accept: str = "nothing",
        runner: AbstractRunner | None = None,
    ) -> set[str]:  # fmt: skip
        """Return the names of the nodes that ran."""
        catalog = DataCatalog.from_config(
            {"{name}": {"type": "text.TextDataset", "filepath": f"{self.folder}/{{name}}.txt"}, **self.datasets}
        )
        catalog["params:lineage"] = {"folder": str(self.folder / "lineage"), "accept": accept}
        for name, value in self.parameters.items():
            catalog[f"params:{name}"] = value
        ran, manager = _Ran(), _create_hook_manager()
        _register_hooks(manager, (ran, LineageHook(lambda: self.whole)))
        chosen = pipeline or self.whole
        run_params = {
            "project_path": self.folder.as_posix(),
            "env": "big",
            "runtime_params": {"n": {"m": 1}},
            "only_missing_outputs": resumes,
            "pipeline_names": None if chosen is self.whole else ["a_part"],
        }
        given = {"run_params": run_params, "pipeline": chosen, "catalog": catalog}
        manager.hook.before_pipeline_run(**given)
        result = (runner or SequentialRunner()).run(chosen, catalog, manager, only_missing_outputs=resumes)
        manager.hook.after_pipeline_run(run_result=result, **given)
        return set(ran.names)

    def text(self, name: str) -> str:
        return self.path(name).read_text()

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.txt"

    def record(self, node: str) -> Any:
        return json.loads((self.folder / "lineage" / f"{node}.json").read_text())


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    def make(whole: Pipeline, **parameters: Any) -> Project:
        return Project(tmp_path, whole, **parameters)

    return make
