"""The commands under one roof, and what becomes of bad input."""

import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from aiophlo._version import __version__
from aiophlo.addresses import mask_text
from aiophlo.cli.batch import batch
from aiophlo.cli.check import check
from aiophlo.cli.demo import demo
from aiophlo.cli.exits import Exit, UnusableError
from aiophlo.cli.options import option_named
from aiophlo.cli.simulate import simulate
from aiophlo.cli.transfer import transfer
from aiophlo.errors import InvalidInputError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,  # they can show locals, and with these a token
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, transfer, batch, check, simulate):
    app.command()(command)


@app.callback(invoke_without_command=True)
def aiophlo(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version and exit.")
    ] = False,
) -> int:
    """Issue warm transfers on Plivo's PHLO, and know what came of them.

    Credentials come from PLIVO_AUTH_ID and PLIVO_AUTH_TOKEN alone.
    """
    if version:
        typer.echo(f"aiophlo {__version__}")
        raise typer.Exit(Exit.ACCEPTED)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(Exit.UNUSABLE)
    return Exit.ACCEPTED


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` ask for and return its exit code."""
    # The commands say themselves what the log's last resort would print again.
    logging.getLogger("aiophlo").addHandler(logging.NullHandler())
    try:
        code = app(list(arguments), prog_name="aiophlo", standalone_mode=False)
    except typer.TyperException as error:
        return _unusable(mask_text(_complaint(error.format_message())))
    except InvalidInputError as error:  # masked already, but for the right spelling
        message = str(error).removeprefix(f"{error.field}: ")
        return _unusable(f"{option_named(error.field)}: {message}")
    except UnusableError as error:
        return _unusable(mask_text(str(error)))
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    if code == Exit.INTERRUPTED:
        typer.echo("aiophlo: interrupted", err=True)
    return int(code)


def _unusable(message: str) -> int:
    typer.echo(f"aiophlo: {' '.join(message.split())}", err=True)
    return Exit.UNUSABLE


def _complaint(message: str) -> str:
    """Return what typer says was wrong, without quoting what may be secret."""
    if "extra argument" in message:
        return "a word belongs to no option; quote values that hold blanks"
    return f"{message.removesuffix('.')}; see --help"
