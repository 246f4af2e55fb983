"""The error of everything that MLflow refuses, with what to do."""

from __future__ import annotations

DATABASE = "sqlite:///"
"""Start of the address of a database file."""

_MENDS = (
    (("disk is full", "No space left", "File too large"), "Free space on that disk, or raise this user's limit."),
    (("readonly", "Read-only", "Permission denied", "unable to open"), "Let this user write to its folder."),
    (("locked",), "Another program has held it for too long: end that one."),
)
"""What to do, by what MLflow's message has in it."""


class TrackingError(RuntimeError):
    """MLflow cannot be reached or used; the message says where it was sought and what to do."""


def unusable(uri: str, error: Exception) -> TrackingError:
    """Return the error that tells what MLflow at ``uri`` raised, in a line, and its mend."""
    root: BaseException = error
    while root.__cause__ is not None:  # What the database said: the errors around it quote statements.
        root = root.__cause__
    told = (str(root).splitlines() or [type(root).__name__])[0]
    otherwise = "Start that server, or set MLFLOW_TRACKING_URI to another one."
    if uri.startswith(DATABASE):
        otherwise = (
            "If the file is broken, move it away: the next run makes a new one. Its records are then lost, no "
            "result under data/ is."
        )
    mend = next((mend for signs, mend in _MENDS if any(sign in told for sign in signs)), otherwise)
    return TrackingError(
        f"MLflow cannot be used at {uri}: {told}\n{mend} Where MLFLOW_TRACKING_URI is not set, runs are kept in "
        "mlflow.db in the project's folder."
    )
