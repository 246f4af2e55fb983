from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient

from dwp_kedro.tracking.comparison import (
    COMPARED_BY,
    SHARED_VIEW,
    closing_lines,
    comparison_url,
    grouped_url,
    grouped_view,
)


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
        options=" --env 'my study' --params prior=ms.safetensors",
        n_train=5,
        run_ids=["a"],
        view=None,
        report=Path("/home/me/dwp/data/08_reporting/report.html"),
    )
    assert lines == [
        "Report:     data/08_reporting/report.html",
        "Kedro-Viz:  kedro viz run --env 'my study' --params prior=ms.safetensors",
        "MLflow:     mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000",
        f"Which method wins at n = 5?  {comparison_url('http://127.0.0.1:5000', '1', ['a'])}",
    ]


def test_several_runs_per_method_are_shown_as_averages():
    *_, last = closing_lines(
        tracking_uri="sqlite:////home/me/dwp/mlflow.db",
        experiment_id="1",
        project_path=Path("/home/me/dwp"),
        options="",
        n_train=10,
        run_ids=["a", "b", "c", "d"],
        view="n10",
        report=None,
    )
    assert last == (
        "Which method wins at n = 10?  http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=n10"
    )


def test_grouped_address_is_below_the_servers():
    url = urlsplit(grouped_url("https://mlflow.lab.org/team/", "7", "n5"))
    assert f"{url.scheme}://{url.netloc}{url.path}" == "https://mlflow.lab.org/team/"
    assert url.fragment == "/experiments/7/runs?viewStateShareKey=n5"


def test_grouped_view_averages_the_tagged_runs_by_method(tmp_path: Path):
    view = grouped_view("parent1", ["ri", "dwp"])
    assert view["groupsExpanded"] == {"param.method.dwp": False, "param.method.ri": False}
    assert view["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": "method"}],
    }
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`test_dsc_mean`", False)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("grid")
    for number, parent in enumerate(["parent1", "parent0", "parent1"]):
        run = client.create_run(experiment, tags={COMPARED_BY: parent}, run_name=f"run{number}")
        client.log_metric(run.info.run_id, "test_dsc_mean", number / 10)
    client.set_experiment_tag(experiment, f"{SHARED_VIEW}n5", json.dumps(view))
    kept = json.loads(client.get_experiment(experiment).tags["mlflow.sharedViewState.n5"])
    order = f"{kept['orderByKey']} {'ASC' if kept['orderByAsc'] else 'DESC'}"
    shown = client.search_runs([experiment], kept["searchFilter"], order_by=[order])
    assert [run.info.run_name for run in shown] == ["run2", "run0"]


def test_closing_lines_of_a_run_without_cells_on_a_server():
    lines = closing_lines(
        tracking_uri="https://mlflow.lab.org",
        experiment_id="3",
        project_path=Path("/home/me/dwp"),
        options="",
        n_train=None,
        run_ids=[],
        view=None,
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
        options=" --env test",
        n_train=None,
        run_ids=[],
        view=None,
        report=None,
    )
    assert viz == "Kedro-Viz:  .venv/bin/kedro viz run --env test"
    assert mlflow == "MLflow:     .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000"
