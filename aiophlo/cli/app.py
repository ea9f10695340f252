"""The command-line application: its commands, and how bad input is reported."""

import logging
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from aiophlo._version import __version__
from aiophlo.cli.batch import batch
from aiophlo.cli.check import check
from aiophlo.cli.demo import demo
from aiophlo.cli.enqueue import enqueue
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.interrupts import interruptible
from aiophlo.cli.options import option_named, with_options_named
from aiophlo.cli.output import forgiving_output, say, say_error
from aiophlo.cli.postgres import postgres
from aiophlo.cli.simulate import simulate
from aiophlo.cli.top import top
from aiophlo.cli.transfer import transfer
from aiophlo.cli.worker import worker
from aiophlo.errors import InvalidInputError
from aiophlo.model.redaction import mask_error, mask_text

# What typer passes on from the library that checks its values, and what we say.
_PLAIN = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"Invalid value for '([^']+)': ", r"\1: "),
        (r"Value error, ", ""),
        (r"Input should be a valid integer, .*", "expected a whole number"),
        (r"Input should be a valid number, .*", "expected a number"),
        (r"Input should be greater than or equal to (\S+)", r"expected \1 or more"),
        (r"Input should be less than or equal to (\S+)", r"expected \1 or less"),
    )
)

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,  # they can show locals, and with these a token
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, transfer, batch, enqueue, worker, check, simulate, top):
    app.command()(command)
app.add_typer(postgres, name="postgres")


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
        say(f"aiophlo {__version__}")
        raise typer.Exit(Exit.ACCEPTED)
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(Exit.UNUSABLE)
    return Exit.ACCEPTED


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` ask for and return its exit code."""
    # The commands say themselves what the log's last resort would print again.
    logging.getLogger("aiophlo").addHandler(logging.NullHandler())
    with forgiving_output(), interruptible():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(list(arguments), prog_name="aiophlo", standalone_mode=False)
    except typer.TyperException as error:
        return _unusable(mask_text(_complaint(error.format_message())))
    except InvalidInputError as error:  # masked already, but for the right spelling
        message = str(error).removeprefix(f"{error.field}: ")
        named = f"{option_named(error.field)}: {with_options_named(message)}"
        return _unusable(named)
    except UnusableError as error:
        return _unusable(error.masked)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- 1, a traceback's code, says not sent
        say_error(
            f"aiophlo: a fault in aiophlo; if anything was sent, it is in doubt:"
            f" {mask_error(error)}"
        )
        return Exit.IN_DOUBT
    if code == Exit.INTERRUPTED:
        say_error("aiophlo: interrupted")
    return int(code)


def _unusable(message: str) -> int:
    say_error(f"aiophlo: {' '.join(message.split())}")
    return Exit.UNUSABLE


def _complaint(message: str) -> str:
    """Return what typer says was wrong, without quoting what may be secret."""
    if "extra argument" in message:
        return "a word belongs to no option; quote values that hold blanks"
    for pattern, plain in _PLAIN:
        message = pattern.sub(plain, message)
    return f"{message.removesuffix('.')}; see --help"
