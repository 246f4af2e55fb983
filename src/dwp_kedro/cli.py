"""The project's own ``kedro run``: Kedro's, except that what the user can mend is told without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from kedro.framework.cli.project import run as _kedro_run
from kedro.io import DatasetError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError


class _Run(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command's options; end with a message where a value of ``--params`` is no YAML."""
        try:
            return super().parse_args(ctx, args)
        except YAMLError as error:
            raise click.UsageError(f"--params: a value is no YAML: {error}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run; end with the error's message alone where this project raised it."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            told = next((cause for cause in _causes(error) if _is_told(cause)), None)
            if told is None:
                raise
            raise click.ClickException(str(told)) from error


@click.group()
def cli() -> None:
    """Commands of the project."""


cli.add_command(
    _Run(
        name="run",
        callback=_kedro_run.callback,
        params=_kedro_run.params,
        help=_kedro_run.help,
        context_settings=_kedro_run.context_settings,
    )
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from: Kedro wraps those of datasets."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_told(error: BaseException) -> bool:
    """Say whether an error's message is written for the user: those of the project's own errors are.

    So are those of its datasets, which raise Kedro's error, though not from another one, and those about
    globals.yml, which Kedro reads before the project's code runs.
    """
    is_own = type(error).__module__.split(".")[0] == __package__
    is_globals = isinstance(error, YAMLError | OmegaConfBaseException)
    return is_own or is_globals or (isinstance(error, DatasetError) and error.__cause__ is None)
