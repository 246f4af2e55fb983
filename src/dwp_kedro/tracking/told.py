"""What errors say: to the user, in MLflow, at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

from kedro.io import DatasetError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dwp_kedro.printable import printable_lines


def told(error: BaseException) -> str | None:
    """Return the message that was written for the user; None for what looks like an error of the program.

    Such messages have this project's own errors; those of its datasets, which raise Kedro's error, though not from
    another one; and those about globals.yml, which Kedro reads before the project's code runs. Kedro wraps errors,
    so what an error was raised from is looked at too. Control characters, which names in files may have, are
    written as such.
    """
    return next((printable_lines(str(cause)) for cause in _causes(error) if _is_told(cause)), None)


def describe(error: BaseException) -> str:
    """Return the message for the user, or else the error's kind and its own words."""
    return told(error) or f"{type(error).__name__}: {error}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_told(error: BaseException) -> bool:
    is_own = type(error).__module__.split(".")[0] == __name__.split(".")[0]
    is_globals = isinstance(error, YAMLError | OmegaConfBaseException)
    return is_own or is_globals or (isinstance(error, DatasetError) and error.__cause__ is None)
