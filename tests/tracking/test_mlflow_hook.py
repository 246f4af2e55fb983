from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node, pipeline
from mlflow import MlflowClient
from mlflow.entities import Run

from dwp_kedro import progress
from dwp_kedro.parameters import SegmentationTraining
from dwp_kedro.tracking.mlflow_hook import MlflowHook
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.tracking.pipeline_run import PipelineRun, keeps_models
from dwp_kedro.tracking.runners import FailedCellsError, SequentialRunner, ThreadRunner
from dwp_kedro.tracking.tracking_error import TrackingError

N_STEPS = 20
METHODS = ("dwp", "ri")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, and so one database, for all tests: making one takes seconds. Each has its environment."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def client(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project}/mlflow.db")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def runs_of(client: MlflowClient, environment: str) -> tuple[list[Run], dict[str, Run]]:
    """Parents, and children by name."""
    experiment = client.get_experiment_by_name(f"dwp-kedro/{environment}")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, {run.info.run_name: run for run in runs if run not in parents}


def cell_name(method: str, n_train: int = 5, split: int = 0) -> str:
    return f"target_evaluation.{method}.n{n_train}_split{split}_seed0"


def make_train(method: str, meet: Callable[[], Any] = lambda: None) -> Callable[..., dict[str, Any]]:
    offset = 1000.0 * METHODS.index(method)

    def train(training: SegmentationTraining) -> dict[str, Any]:
        for step in range(N_STEPS):
            meet()
            progress.log_metrics({"loss": offset + step, "learning_rate": 0.1}, step)
        return {"weights": method}

    return train


def score(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {"test_dsc_mean": 0.25 if checkpoint["weights"] == "dwp" else 0.75, "unit": "mm"}


def fail(checkpoint: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("out of memory")


def cell(method: str, n_train: int = 5, train: Any = None, score: Any = score, split: int = 0) -> Pipeline:
    nodes = [
        node(train or make_train(method), "params:training", "checkpoint", name="train"),
        node(score, "checkpoint", "metrics", name="score"),
    ]
    return pipeline(
        nodes,
        namespace=cell_name(method, n_train, split),
        parameters={"params:training": "params:target_evaluation.training"},
        tags=["stage.grid_cell"],
    )


def summarise(*metrics: dict[str, Any]) -> tuple[dict[str, float], dict[str, float], str]:
    return {"dwp_n5_dsc_mean": metrics[0]["test_dsc_mean"]}, {"rows": len(metrics)}, "report"


def grid(*cells: Pipeline, names: list[str]) -> Pipeline:
    outputs = [f"target_evaluation.{name}" for name in ("metrics", "summary_dsc", "report")]
    summary = node(summarise, [f"{name}.metrics" for name in names], outputs, name="summarise")
    return sum(cells, Pipeline([])) + Pipeline([summary])


def make_catalog(folder: Path) -> DataCatalog:
    def json_file(name: str, layer: str) -> dict[str, Any]:
        metadata = {"kedro-viz": {"layer": layer}}
        return {"type": "json.JSONDataset", "filepath": f"{folder}/{name}.json", "metadata": metadata}

    catalog = DataCatalog.from_config(
        {
            "{cell}.checkpoint": json_file("{cell}/checkpoint", "models"),
            "{cell}.metrics": json_file("{cell}/metrics", "model_output"),
            "target_evaluation.summary_dsc": json_file("summary_dsc", "reporting"),
            "target_evaluation.report": json_file("report", "reporting"),
        }
    )
    catalog["params:target_evaluation.training"] = SegmentationTraining(batch_size=3)
    return catalog


@pytest.mark.parametrize("runner", [SequentialRunner, ThreadRunner])
def test_a_run_and_its_children(
    project: Path, client: MlflowClient, run_pipeline: Any, runner: Any, capsys: pytest.CaptureFixture[str]
):
    environment = runner.__name__
    # In threads, both trainings wait for each other at each step: any cross-talk would show in the curves.
    meet = threading.Barrier(2, timeout=30).wait if runner is ThreadRunner else lambda: None
    whole = grid(
        *(cell(method, train=make_train(method, meet)) for method in METHODS),
        names=[cell_name(method) for method in METHODS],
    )
    run_pipeline(whole, make_catalog(project / environment), (MlflowHook(),), project, environment, runner())

    (parent,), children = runs_of(client, environment)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"dwp_n5_dsc_mean": 0.25}
    assert parent.data.tags["environment"] == environment
    assert parent.data.params["runtime_params"] == "{'n': 1}"
    assert set(children) == {"dwp.n5_split0_seed0", "ri.n5_split0_seed0"}
    artifacts = client.list_artifacts(parent.info.run_id, "target_evaluation")
    assert {item.path.rsplit("/", 1)[-1] for item in artifacts} == {"summary_dsc.json", "report.json"}

    for index, method in enumerate(METHODS):
        child = children[f"{method}.n5_split0_seed0"]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["stage"] == "grid_cell"
        assert child.data.metrics["test_dsc_mean"] == (0.25, 0.75)[index]
        history = client.get_metric_history(child.info.run_id, "loss")
        assert sorted((point.step, point.value) for point in history) == [
            (step, 1000.0 * index + step) for step in range(N_STEPS)
        ]
        path = client.download_artifacts(child.info.run_id, "checkpoint.json")
        assert f"{environment}/{cell_name(method)}/checkpoint.json" in Path(path).read_text()

    run_ids = [children[f"{method}.n5_split0_seed0"].info.run_id for method in METHODS]
    printed = capsys.readouterr().out
    assert "Which method wins at n = 5?" in printed
    assert quote(", ".join(f"'{run_id}'" for run_id in run_ids)) in printed
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db --port 5000" in printed


def test_all_children_have_the_same_keys(project: Path, client: MlflowClient, run_pipeline: Any):
    source = pipeline(
        [node(make_train("dwp"), "params:training", "checkpoint", name="train")],
        namespace="source_training.whole_3",
        parameters={"params:training": "params:target_evaluation.training"},
        tags=["stage.source_network"],
    )
    group = pipeline(
        [node(make_train("dwp"), "params:training", "checkpoint", name="train")],
        namespace="prior_learning.group_7",
        parameters={"params:training": "params:target_evaluation.training"},
        tags=["stage.kernel_vae"],
    )
    run_pipeline(
        source + group + cell("dwp", 10), make_catalog(project / "keys"), (MlflowHook(),), project, "keys"
    )
    _, children = runs_of(client, "keys")
    identities = {
        name: {key: value for key, value in run.data.params.items() if not key.startswith("training.")}
        for name, run in children.items()
    }
    absent = dict.fromkeys(("method", "n_train", "split", "seed", "network", "restarted", "group"), "-")
    absent["environment"] = "keys"
    assert identities == {
        "whole_3": absent | {"network": "3"},
        "group_7": absent | {"group": "7"},
        "dwp.n10_split0_seed0": absent | {"method": "dwp", "n_train": "10", "split": "0", "seed": "0"},
    }
    assert {run.data.params["training.batch_size"] for run in children.values()} == {"3"}
    assert {run.data.params["training.gradient_norm"] for run in children.values()} == {"None"}
    assert {run.data.params["training.schedule.learning_rate"] for run in children.values()} == {"0.001"}


def vae(group: int) -> Pipeline:
    def learn() -> tuple[dict[str, float], str]:
        for step in range(5):
            progress.log_metrics({"latent_kl": 100.0 - step, "loss": 1.0}, step)
        return {"latent_kl": 3.0, "n_dropped": 4.0}, "<html>a picture</html>"

    nodes = [node(learn, None, ["metrics", "figure"], name="learn")]
    return pipeline(nodes, namespace=f"prior_learning.group_{group}", tags=["stage.kernel_vae"])


def prior_catalog(folder: Path) -> DataCatalog:
    page = {"type": "text.TextDataset", "metadata": {"kedro-viz": {"layer": "reporting"}}}
    return DataCatalog.from_config(
        {
            "prior_learning.prior": {"type": "json.JSONDataset", "filepath": f"{folder}/prior.json"},
            "prior_learning.{group}.figure": {**page, "filepath": f"{folder}/kernels_{{group}}.html"},
            "prior_learning.{group}.metrics": {
                "type": "json.JSONDataset", "filepath": f"{folder}/{{group}}.json"
            },
        }
    )  # fmt: skip


def logged_files(client: MlflowClient, run: Run) -> set[str]:
    folders = client.list_artifacts(run.info.run_id)
    return {file.path for folder in folders for file in client.list_artifacts(run.info.run_id, folder.path)}


def test_a_final_value_is_the_latest_of_a_curve_of_its_name(
    project: Path, client: MlflowClient, run_pipeline: Any
):
    run_pipeline(vae(1), prior_catalog(project / "final"), (MlflowHook(),), project, "final")
    _, children = runs_of(client, "final")
    child = children["group_1"]
    assert child.data.metrics == {"latent_kl": 3.0, "loss": 1.0, "n_dropped": 4.0}
    history = client.get_metric_history(child.info.run_id, "latent_kl")
    assert {point.value for point in history if point.step == 0} == {100.0}
    (dropped,) = client.get_metric_history(child.info.run_id, "n_dropped")
    assert dropped.step == 4


def test_figures_of_a_stage_and_the_priors_place(project: Path, client: MlflowClient, run_pipeline: Any):
    folder = project / "prior"
    assemble = Pipeline([node(lambda metrics: metrics, "prior_learning.group_1.metrics", "prior_learning.prior")])
    run_pipeline(vae(1) + vae(2) + assemble, prior_catalog(folder), (MlflowHook(),), project, "prior")
    (parent,), children = runs_of(client, "prior")
    for name, child in children.items():
        assert logged_files(client, child) == {f"prior_learning/kernels_{name}.html"}
    assert logged_files(client, parent) == set()
    assert parent.data.tags["prior"] == "prior/prior.json"
    path = client.download_artifacts(parent.info.run_id, "prior.json")
    assert json.loads(Path(path).read_text()) == {"dataset": "prior_learning.prior", "path": "prior/prior.json"}


@pytest.mark.parametrize("allowed", [None, False, True])
def test_pictures_go_to_a_server_only_if_allowed(
    project: Path, client: MlflowClient, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch, allowed: bool | None
):
    start = MlflowStore.__init__

    def start_as_server(store: MlflowStore, *arguments: Any) -> None:
        start(store, *arguments)
        store.is_server = True

    monkeypatch.setattr(MlflowStore, "__init__", start_as_server)
    environment = f"server_{allowed}"
    catalog = prior_catalog(project / environment)
    if allowed is not None:
        catalog["params:tracking.upload_pictures"] = allowed
    run_pipeline(vae(1), catalog, (MlflowHook(),), project, environment)
    _, children = runs_of(client, environment)
    files = logged_files(client, children["group_1"])
    assert files == ({"prior_learning/kernels_group_1.html"} if allowed else set())
    assert ("pictures" in children["group_1"].data.tags) == (not allowed)


@pytest.mark.parametrize(
    ("setting", "here", "on_a_server"), [("local", True, False), ("always", True, True), ("never", False, False)]
)
def test_networks_go_to_a_server_only_if_allowed(setting: str, here: bool, on_a_server: bool):
    assert keeps_models(setting, is_server=False) is here
    assert keeps_models(setting, is_server=True) is on_a_server


def test_a_failed_node_fails_its_child_and_the_parent(project: Path, client: MlflowClient, run_pipeline: Any):
    whole = grid(cell("dwp", score=fail), cell("ri"), names=[cell_name(method) for method in METHODS])
    with pytest.raises(FailedCellsError):
        run_pipeline(
            whole, make_catalog(project / "failed"), (MlflowHook(),), project, "failed", SequentialRunner()
        )
    (parent,), children = runs_of(client, "failed")
    assert parent.info.status == "FAILED"
    assert parent.data.tags["failure"].startswith("1 of 2 cells failed")
    child = children["dwp.n5_split0_seed0"]
    assert child.info.status == "FAILED"
    assert child.data.tags["failure"] == "RuntimeError: out of memory"
    assert child.data.metrics["loss"] == N_STEPS - 1
    assert children["ri.n5_split0_seed0"].info.status == "FINISHED"
    assert "failure" not in children["ri.n5_split0_seed0"].data.tags


def test_resuming_records_what_still_runs_and_compares_all(
    project: Path, client: MlflowClient, run_pipeline: Any, capsys: pytest.CaptureFixture[str]
):
    catalog = make_catalog(project / "resumed")
    names = [cell_name(method) for method in METHODS]
    broken = grid(cell("dwp"), cell("ri", score=fail), names=names)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_pipeline(broken, catalog, (MlflowHook(),), project, "resumed")
    _, before = runs_of(client, "resumed")
    first_dwp = before["dwp.n5_split0_seed0"]
    assert first_dwp.info.status == "FINISHED"
    capsys.readouterr()

    whole = grid(cell("dwp"), cell("ri"), names=names)
    run_pipeline(whole, catalog, (MlflowHook(),), project, "resumed", only_missing_outputs=True)
    parents, _ = runs_of(client, "resumed")
    newest = max(parents, key=lambda run: run.info.start_time)
    assert newest.info.status == "FINISHED"
    new = client.search_runs([newest.info.experiment_id], f"tags.`mlflow.parentRunId` = '{newest.info.run_id}'")
    # The training of ri and all of dwp were on disk: only ri's scoring was left.
    assert [(run.info.run_name, run.info.status) for run in new] == [("ri.n5_split0_seed0", "FINISHED")]
    assert new[0].data.params == before["ri.n5_split0_seed0"].data.params
    assert new[0].data.params["training.batch_size"] == "3"
    assert new[0].data.tags["checkpoint"] == before["ri.n5_split0_seed0"].data.tags["checkpoint"]
    printed = capsys.readouterr().out
    assert first_dwp.info.run_id in printed
    assert new[0].info.run_id in printed


def test_what_was_made_before_mlflow_knew_of_it_is_recorded_by_the_next_run(
    project: Path, client: MlflowClient, run_pipeline: Any
):
    catalog = make_catalog(project / "unrecorded")
    hook, record = MlflowHook(), PipelineRun.output_saved

    def stop_at_metrics(run: PipelineRun, node: Any, name: str, value: Any) -> None:
        if name.endswith(".metrics"):
            raise KeyboardInterrupt
        record(run, node, name, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PipelineRun, "output_saved", stop_at_metrics)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(cell("dwp"), catalog, (hook,), project, "unrecorded")
    hook._end("KILLED")
    _, before = runs_of(client, "unrecorded")
    assert "test_dsc_mean" not in before["dwp.n5_split0_seed0"].data.metrics

    run_pipeline(cell("dwp"), catalog, (MlflowHook(),), project, "unrecorded", only_missing_outputs=True)
    parents, after = runs_of(client, "unrecorded")
    assert len(after) == 1
    child = after["dwp.n5_split0_seed0"]
    assert child.info.run_id == before["dwp.n5_split0_seed0"].info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.metrics == {"loss": N_STEPS - 1, "learning_rate": 0.1, "test_dsc_mean": 0.25}
    newest = max(parents, key=lambda run: run.info.start_time)
    assert child.data.tags["completed_by"] == newest.info.run_id


def test_a_failed_run_tells_its_own_error_also_where_mlflow_fails_too(
    project: Path, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(store: MlflowStore, run_id: str, status: str) -> None:
        raise TrackingError("database or disk is full")

    monkeypatch.setattr(MlflowStore, "end_run", refuse)
    monkeypatch.setattr(PipelineRun, "fail_node", lambda run, node, failure: None)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_pipeline(cell("dwp", score=fail), make_catalog(project / "both"), (MlflowHook(),), project, "both")
    assert "not in MLflow yet: database or disk is full" in caplog.text


def test_several_draws_are_compared_as_averages_by_method(
    project: Path, client: MlflowClient, run_pipeline: Any, capsys: pytest.CaptureFixture[str]
):
    pairs = [(method, split) for method in METHODS for split in (0, 1)]
    whole = grid(
        *(cell(method, split=split) for method, split in pairs),
        cell("ri", 10),
        names=[cell_name(method, split=split) for method, split in pairs],
    )
    run_pipeline(whole, make_catalog(project / "draws"), (MlflowHook(),), project, "draws")
    experiment = client.get_experiment_by_name("dwp-kedro/draws")
    assert (
        "Which method wins at n = 5?  http://127.0.0.1:5000/#/experiments/"
        f"{experiment.experiment_id}/runs?viewStateShareKey=n5\n"
    ) in capsys.readouterr().out
    view = json.loads(experiment.tags["mlflow.sharedViewState.n5"])
    shown = client.search_runs([experiment.experiment_id], view["searchFilter"])
    assert {run.info.run_name for run in shown} == {f"{method}.n5_split{split}_seed0" for method, split in pairs}


def test_interrupted_run_is_killed(project: Path, client: MlflowClient, run_pipeline: Any):
    def interrupted(training: SegmentationTraining) -> None:
        progress.log_metrics({"loss": 4.0}, 0)
        raise KeyboardInterrupt

    hook = MlflowHook()
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(cell("dwp", train=interrupted), make_catalog(project / "killed"), (hook,), project, "killed")
    hook._end("KILLED")  # What Python calls at exit.
    (parent,), children = runs_of(client, "killed")
    assert parent.info.status == "FAILED"
    assert "resume" in parent.data.tags["stopped"]
    assert children["dwp.n5_split0_seed0"].info.status == "KILLED"
    assert children["dwp.n5_split0_seed0"].data.metrics["loss"] == 4.0
    progress.log_metrics({"loss": 5.0}, 1)  # Nobody listens any more.
    run = client.get_run(children["dwp.n5_split0_seed0"].info.run_id)
    assert run.data.metrics["loss"] == 4.0


def test_runs_of_dead_processes_are_ended(project: Path, client: MlflowClient):
    store = MlflowStore(project, "dwp-kedro/dead")
    alive = store.start_run("alive", {})
    finished = store.start_run("finished", {})
    store.end_run(finished, "FINISHED")
    gone = store.start_run("gone", {})
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    store.set_tag(gone, "process_id", str(process.pid))
    unasked = store.start_run("dead, though its parent has not asked how it ended", {})
    child = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    store.set_tag(unasked, "process_id", str(child.pid))
    store.set_tag(unasked, "process_started", repr(psutil.Process(child.pid).create_time()))
    reused = store.start_run("its process id belongs to a younger process", {})
    store.set_tag(reused, "process_started", repr(psutil.Process().create_time() - 60))
    elsewhere = store.start_run("elsewhere", {})
    store.set_tag(elsewhere, "process_host", "another machine")
    store.set_tag(elsewhere, "process_id", str(process.pid))

    assert set(store.end_dead_runs()) == {gone, reused, unasked}
    child.wait()
    runs = (alive, finished, gone, unasked, reused, elsewhere)
    assert [client.get_run(run_id).info.status for run_id in runs] == [
        "RUNNING", "FINISHED", "FAILED", "FAILED", "FAILED", "RUNNING"
    ]  # fmt: skip


def test_system_metrics(project: Path, client: MlflowClient, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    waited = Pipeline([node(lambda: threading.Event().wait(0.5), None, "waited", name="wait")])
    run_pipeline(waited, DataCatalog(), (MlflowHook(),), project, "system")
    (parent,), _ = runs_of(client, "system")
    assert parent.data.metrics["system/system_memory_usage_megabytes"] > 0


def test_unreachable_server_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9.*\n.*MLFLOW_TRACKING_URI"):
        MlflowStore(tmp_path, "dwp-kedro/base")
