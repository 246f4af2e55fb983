"""What a finished ``kedro run --env test`` leaves in MLflow and says on the terminal."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cells import CELLS, N_SAMPLES
from mlflow import MlflowClient
from mlflow.entities import Run

from dwp_kedro.parameters import ScheduleParameters
from dwp_kedro.training.target import PosteriorSettings

# --- MLflow ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(finished_project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{finished_project}/mlflow.db")


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("dwp-kedro/test")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


@pytest.fixture(scope="module")
def children(runs: list[Run]) -> dict[str, Run]:
    return {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}


def test_one_finished_parent_and_a_finished_child_for_each_training(runs: list[Run], children: dict[str, Run]):
    networks = ["network_0", "network_0_restarted", "network_1", "network_1_restarted"]
    networks += ["whole_0", "whole_0_source_posterior"]
    expected = {
        **dict.fromkeys(networks, "source_network"),
        **{f"group_{number}": "kernel_vae" for number in range(1, 8)},
        **{f"{method}.n{n}_split{split}_seed0": "grid_cell" for method, n, split in CELLS},
    }
    assert {name: child.data.tags["stage"] for name, child in children.items()} == expected
    parents = [run for run in runs if run.info.run_name not in children]
    assert len(parents) == 1
    assert len(runs) == len(children) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parents[0].info.run_id}


def test_children_can_be_compared_by_the_same_parameters(children: dict[str, Run]):
    identity = {"method", "n_train", "split", "seed", "network", "group", "environment"}
    keys_by_stage: dict[str, set[frozenset[str]]] = {}
    for child in children.values():
        keys_by_stage.setdefault(child.data.tags["stage"], set()).add(frozenset(child.data.params))
        assert identity <= set(child.data.params)
    assert {stage: len(keys) for stage, keys in keys_by_stage.items()} == dict.fromkeys(keys_by_stage, 1)
    cell = children["dwp.n3_split1_seed0"].data.params
    place = {name: cell[name] for name in ("method", "n_train", "split", "seed", "environment")}
    assert place == {"method": "dwp", "n_train": "3", "split": "1", "seed": "0", "environment": "test"}


@pytest.mark.parametrize(("cell", "temperature"), [("dwp.n2_split0_seed0", "0.1"), ("ri.n3_split1_seed0", "None")])
def test_a_cells_settings_are_among_its_parameters(children: dict[str, Run], cell: str, temperature: str):
    known = children[cell].data.params
    training = [*(field.name for field in fields(PosteriorSettings)), "dice_weight", "augmentation"]
    training += [f"schedule.{name}" for name in ScheduleParameters.model_fields]
    wanted = [*(f"target_training.{name}" for name in training), "compute.precision", "prediction.n_samples"]
    assert [name for name in wanted if name not in known] == []
    # What --env test says; a plain network has no temperature.
    assert known["target_training.temperature"] == temperature
    assert known["target_training.schedule.max_steps"] == "4"
    assert known["prediction.n_samples"] == str(N_SAMPLES)


@pytest.mark.parametrize(
    ("child", "history", "curves"),
    [
        (
            "network_1",
            "source_training/network_1",
            {"loss", "data_term", "train_dsc", "learning_rate", "gradient_norm"},
        ),
        (
            "group_3",
            "prior_learning/group_3",
            {"loss", "data_term", "latent_kl", "learning_rate", "gradient_norm"},
        ),
        (
            "dwp.n3_split0_seed0",
            "target_evaluation/dwp/n3_split0_seed0",
            {"loss", "data_term", "kl", "log_variance", "train_dsc", "learning_rate", "gradient_norm"},
        ),
        (
            "ri.n3_split0_seed0",
            "target_evaluation/ri/n3_split0_seed0",
            {"loss", "data_term", "train_dsc", "learning_rate", "gradient_norm"},
        ),
    ],
)
def test_curves_are_those_of_the_history(
    finished_project: Path,
    client: MlflowClient,
    children: dict[str, Run],
    child: str,
    history: str,
    curves: set[str],
):
    table = pd.read_csv(finished_project / f"data/06_models/test/{history}_history.csv")
    assert set(table.columns) == curves | {"step"}
    for name in curves:
        points = client.get_metric_history(children[child].info.run_id, name)
        # The final figures of a training share a name with its curve of DSC, at step 0.
        curve = {point.step: point.value for point in points if point.step > 0}
        assert curve == pytest.approx(dict(zip(table["step"], table[name], strict=True)))


def test_final_metrics_are_the_means_of_the_scores(children: dict[str, Run], scores: pd.DataFrame):
    for method, n_train, split in CELLS:
        of_cell = scores.query(f"method == '{method}' and n_train == {n_train} and split == {split}")
        metrics = children[f"{method}.n{n_train}_split{split}_seed0"].data.metrics
        for metric in ("dsc", "iou", "hd95", "own_grid_dsc"):
            assert metrics[f"test_{metric}_mean"] == pytest.approx(of_cell[metric].mean())


def test_checkpoints_and_tables_are_found_from_mlflow(
    finished_project: Path, client: MlflowClient, runs: list[Run], children: dict[str, Run]
):
    for child in children.values():
        kind = "source_posterior" if child.info.run_name.endswith("source_posterior") else "checkpoint"  # type: ignore[union-attr]
        assert (finished_project / child.data.tags[kind]).is_file()
    parent = next(run for run in runs if run.info.run_name not in children)
    logged = {file.path for file in client.list_artifacts(parent.info.run_id, "target_evaluation")}
    wanted = ("report.html", "summary_dsc.csv", "scores.csv", "segmentations.png", "train_size.json")
    assert {f"target_evaluation/{name}" for name in wanted} <= logged


# --- the terminal ------------------------------------------------------------------------------------------


def test_the_terminal_ends_with_the_table_and_where_to_look(finished_project: Path, reporting: Path):
    lines = (finished_project / "terminal.txt").read_text().splitlines()
    endings = [
        r"Report: +data/08_reporting/test/report\.html",
        r"Kedro-Viz: +(\S*/)?kedro viz run\b.*",  # with its folder, where kedro is not on the PATH
        r"MLflow: +(\S*/)?mlflow ui --backend-store-uri sqlite:///mlflow\.db\b.*",
        r"Which method wins at n = 2\? +http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?.+",
    ]
    for pattern, line in zip(endings, lines[-len(endings) :], strict=True):
        assert re.fullmatch(pattern, line)
    title = next(number for number, line in enumerate(lines) if line.startswith("Test DSC, mean"))
    shown = [re.findall(r"[^\s│┃](?:[^│┃]*[^\s│┃])?", line) for line in lines[title:]]
    table = pd.read_csv(reporting / "summary_dsc.csv").astype(str)
    for row in (list(table.columns), *table.to_numpy().tolist()):
        assert row in shown


def test_every_training_says_how_far_it_is(finished_project: Path):
    printed = (finished_project / "terminal.txt").read_text()
    for task in ("source network 1 restarted", "prior group_7", "target dwp n3 split1 seed0"):
        assert re.search(rf"^{task}: \d+/\d+ loss .*done in", printed, re.MULTILINE), task


def test_nothing_is_silent_for_long(finished_project: Path):
    """The yardstick is the import of the libraries, which says nothing and takes as long as the machine needs.

    Silence counts while the run has a processor: other work on the machine is not the run's fault.
    """
    lines = (finished_project / "terminal.txt").read_text().splitlines()
    seconds = np.loadtxt(finished_project / "terminal_seconds.txt")
    assert len(seconds) == len(lines)
    silences = np.diff(seconds, axis=0).min(axis=1)
    imported = next(number for number, line in enumerate(lines) if "Kedro project" in line)
    start, own = silences[:imported].sum(), silences[imported:]
    longest = int(own.argmax())
    assert own[longest] < 2 * start, f"{own[longest]:.1f} s after: {lines[imported + longest]}"
