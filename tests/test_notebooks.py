from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


# Pictures, and charts, of each.
SHOWN = {"01_first_look": (3, 1), "02_priors": (2, 1), "03_uncertainty": (1, 1)}


def execute(path: Path, project: Path) -> list[dict[str, Any]]:
    """Run a notebook in a project; return what its cells show, by MIME type."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(project)}}).execute()
    return [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_a_finished_run(
    path: Path, finished_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    shown = execute(path, finished_project)
    pictures = [data for data in shown if "image/png" in data]
    charts = [data["application/vnd.plotly.v1+json"] for data in shown if "application/vnd.plotly.v1+json" in data]
    assert (len(pictures), len(charts)) == SHOWN[path.stem]
    if path.stem == "02_priors":
        assert any("bright plaques and thick slices." in data.get("text/html", "") for data in shown), "in full"
        assert len(charts[0]["layout"]["sliders"]) == 2  # the latent dimensions of the environment test


@pytest.mark.parametrize("path", NOTEBOOKS[:2], ids=lambda path: path.stem)
def test_notebook_shows_a_colleagues_prior_where_there_is_no_source(
    path: Path, finished_project: Path, unrun_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEDRO_ENV", "test")
    of_source = shutil.ignore_patterns("plaques", "04_feature", "source_*", "prior_learning*")
    shutil.copytree(finished_project / "data", unrun_project / "data", ignore=of_source)
    (unrun_project / "data/06_models/test/prior.safetensors").rename(unrun_project / "received.safetensors")
    with (unrun_project / "conf/test/globals.yml").open("a", encoding="utf-8") as stream:
        stream.write("prior: received.safetensors\n")

    shown = execute(path, unrun_project)

    assert len([data for data in shown if "image/png" in data]) == SHOWN[path.stem][0]
    assert any("heldout_nelbo" in data.get("text/html", "") for data in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs"), "clear the outputs before committing"
        assert cell.get("execution_count") is None
