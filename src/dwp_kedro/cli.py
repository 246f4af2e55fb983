"""The project's own ``kedro run``: Kedro's, except for two things.

What the user can mend is told without a traceback, and a cell of the grid that fails lets the others go on.
"""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.cli.project import run as _kedro_run
from yaml import YAMLError

from dwp_kedro.tracking.told import told

_OWN_RUNNERS = ("SequentialRunner", "ThreadRunner")


class _Run(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command's options; end with a message where a value of ``--params`` is no YAML."""
        try:
            return super().parse_args(ctx, args)
        except YAMLError as error:
            raise click.UsageError(f"--params: a value is no YAML: {error}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run with this project's runner; end with the error's message alone where this project raised it."""
        name = ctx.params["runner"] or "SequentialRunner"
        if name in _OWN_RUNNERS:
            ctx.params["runner"] = f"dwp_kedro.tracking.runners.{name}"
        try:
            return super().invoke(ctx)
        except Exception as error:
            message = told(error)
            if message is None:
                raise
            raise click.ClickException(message) from error


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
