from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dwp_kedro.tracking.comparison import closing_lines, comparison_url


@pytest.mark.parametrize("base", ["http://127.0.0.1:5000", "https://mlflow.lab.org/team/"])
def test_address_carries_runs_and_experiment(base: str):
    url = urlsplit(comparison_url(base, "7", ["a1", "b2"]))
    page, _, query = url.fragment.partition("?")
    assert page == "/experiments/7/runs"
    assert {key: texts[0] for key, texts in parse_qs(query).items()} == {
        "searchFilter": "attributes.run_id IN ('a1', 'b2')",
        "orderByKey": "metrics.`test_dsc_mean`",
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    assert f"{url.scheme}://{url.netloc}{url.path}" == base.rstrip("/") + "/"


def test_closing_lines_of_a_local_run():
    lines = closing_lines(
        tracking_uri="sqlite:////home/me/dwp/mlflow.db",
        experiment_id="1",
        project_path=Path("/home/me/dwp"),
        environment="my study",
        n_train=5,
        run_ids=["a"],
        report=Path("/home/me/dwp/data/08_reporting/report.html"),
    )
    assert lines == [
        "Report:     data/08_reporting/report.html",
        "Kedro-Viz:  kedro viz run --env 'my study'",
        "MLflow:     mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000",
        f"Which method wins at n = 5?  {comparison_url('http://127.0.0.1:5000', '1', ['a'])}",
    ]


def test_closing_lines_of_a_run_without_cells_on_a_server():
    lines = closing_lines(
        tracking_uri="https://mlflow.lab.org",
        experiment_id="3",
        project_path=Path("/home/me/dwp"),
        environment=None,
        n_train=None,
        run_ids=[],
        report=None,
    )
    assert lines == ["Kedro-Viz:  kedro viz run", "MLflow:     https://mlflow.lab.org/#/experiments/3"]


def test_closing_lines_work_as_printed_where_nothing_is_active(
    environment_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    project = environment_folder.parents[1]
    viz, mlflow = closing_lines(
        tracking_uri=f"sqlite:///{project}/mlflow.db",
        experiment_id="1",
        project_path=project,
        environment="test",
        n_train=None,
        run_ids=[],
        report=None,
    )
    assert viz == "Kedro-Viz:  .venv/bin/kedro viz run --env test"
    assert mlflow == "MLflow:     .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000"
