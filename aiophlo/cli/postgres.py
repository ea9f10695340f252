"""`aiophlo postgres migrate`: the schema that pools share."""

import asyncio
import os
from typing import Annotated

import typer

from aiophlo.cli.exit_codes import Exit, UnusableError, needs_extra
from aiophlo.cli.log_lines import log_shown
from aiophlo.cli.output import say
from aiophlo.errors import InvalidInputError

postgres = typer.Typer(help="What pools share in a Postgres.", no_args_is_help=True)
URL_VARIABLE = "AIOPHLO_POSTGRES_URL"
_SECRET_VARIABLE = "AIOPHLO_POSTGRES_SECRET"  # noqa: S105 -- its name


def shared_secret() -> str | None:
    """Return the coordinator's secret that the environment has; None for none.

    Raises:
        UnusableError: It can't be one.
    """
    from aiophlo.postgres.validation import check_secret  # noqa: PLC0415 -- needs the extra

    try:
        return check_secret(os.environ.get(_SECRET_VARIABLE) or None)
    except InvalidInputError as error:
        raise UnusableError(f"{_SECRET_VARIABLE}: {error}") from error


@postgres.callback()
def group() -> None:
    """What pools share in a Postgres."""


@postgres.command()
def migrate(
    *,
    url: Annotated[
        str | None,
        typer.Option(
            envvar=URL_VARIABLE,
            show_envvar=True,
            help="Where it is: postgresql://user@host/database. A password is better"
            " given in PGPASSWORD, as a process's arguments can be read.",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Name of the schema.")] = "aiophlo",
    queue: Annotated[
        bool | None,
        typer.Option(
            "--queue/--no-queue",
            help="Make the tables of a queue, too; by default if the extra is there.",
        ),
    ] = None,
) -> int:
    """Make the schema that pools share, or bring it up to date."""
    if url is None:
        raise UnusableError(f"--url: expected where the database is, or {URL_VARIABLE}")
    with needs_extra("postgres", "postgres"):
        from aiophlo import postgres as shared  # noqa: PLC0415 -- needs the extra
    try:
        with log_shown(say, "%(message)s", doubts=False):
            applied = asyncio.run(shared.migrate(url, namespace=namespace, queue=queue))
    except shared.MigrationError as error:
        raise UnusableError(str(error)) from error
    done = ", ".join(map(str, applied))
    say(f"{namespace}: applied {done}" if applied else f"{namespace}: up to date")
    return Exit.ACCEPTED
