"""MLflow's database file, made whole or not at all."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from dwp_kedro.atomic_write import atomic_file
from dwp_kedro.tracking.tracking_error import DATABASE


def make_database(path: Path) -> None:
    """Make the database if there is none, once where several runs begin together.

    Making it takes seconds and many steps, and MLflow itself cannot go on where another process stopped.
    """
    if path.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            with atomic_file(path) as temporary:
                store = SqlAlchemyStore(f"{DATABASE}{temporary.as_posix()}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
                store.engine.dispose()
