"""The database that several runs may want at once, and the disk may have no room for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from dwp_kedro.tracking.mlflow_database import make_database
from dwp_kedro.tracking.mlflow_store import MlflowStore
from dwp_kedro.tracking.tracking_error import TrackingError, unusable


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("database") / "made" / "mlflow.db"
    make_database(file)
    return file


@pytest.fixture
def project(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(database, tmp_path)
    return tmp_path


def test_it_is_whole_and_made_once(database: Path):
    time = database.stat().st_mtime_ns
    make_database(database)
    assert database.stat().st_mtime_ns == time
    assert sorted(file.name for file in database.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    [default] = MlflowClient(f"sqlite:///{database}").search_experiments()
    assert default.name == "Default"


def test_an_experiment_that_another_run_makes_meanwhile(project: Path, monkeypatch: pytest.MonkeyPatch):
    others = MlflowStore(project, "dwp-kedro/base").experiment_id
    seek, n_sought = MlflowClient.get_experiment_by_name, 0

    def not_yet_at_first(client: MlflowClient, name: str) -> Any:
        nonlocal n_sought
        n_sought += 1
        return None if n_sought == 1 else seek(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", not_yet_at_first)
    assert MlflowStore(project, "dwp-kedro/base").experiment_id == others


def test_a_broken_database_is_one_clear_error(project: Path):
    (project / "mlflow.db").write_text("no database at all")
    with pytest.raises(TrackingError, match=r"mlflow\.db: .*not a database\n.*move it away"):
        MlflowStore(project, "dwp-kedro/base")


def test_an_artifact_that_cannot_be_written_is_one_clear_error(project: Path, monkeypatch: pytest.MonkeyPatch):
    store = MlflowStore(project, "dwp-kedro/base")
    run_id = store.start_run("a run", {})
    shutil.rmtree(project / "mlruns", ignore_errors=True)
    (project / "mlruns").write_text("a file where the folder should be")
    with pytest.raises(TrackingError, match="MLflow cannot be used at sqlite:///"):
        store.log_json(run_id, {}, "checkpoint.json")


@pytest.mark.parametrize(
    ("message", "mend"),
    [
        ("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT]", "Free space"),
        ("[Errno 28] No space left on device: '/a/b'", "Free space"),
        ("(sqlite3.OperationalError) attempt to write a readonly database", "Let this user write"),
        ("(sqlite3.OperationalError) unable to open database file", "Let this user write"),
        ("(sqlite3.OperationalError) database is locked", "Another program"),
        ("(sqlite3.DatabaseError) file is not a database", "If the file is broken, move it away"),
    ],
)
def test_errors_are_told_in_a_line_with_a_mend(message: str, mend: str):
    told = str(unusable("sqlite:////p/mlflow.db", RuntimeError(message)))
    assert told.startswith(f"MLflow cannot be used at sqlite:////p/mlflow.db: {message.splitlines()[0]}\n{mend}")
    assert "MLFLOW_TRACKING_URI" in told


def test_of_a_server_nobody_need_move_a_file():
    assert "Start that server" in str(unusable("http://127.0.0.1:9", RuntimeError("refused")))
