"""Options of `aiophlo enqueue` and `aiophlo worker`."""

import math
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from aiophlo.cli.exit_codes import UnusableError, needs_extra
from aiophlo.cli.postgres import URL_VARIABLE, shared_secret
from aiophlo.errors import PhloError

if TYPE_CHECKING:
    from aiophlo.postgres import PostgresCoordinator

_SPAN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

QueueUrl = Annotated[
    str | None,
    typer.Option(
        "--postgres-url",
        envvar=URL_VARIABLE,
        show_envvar=True,
        help="Where the queue is: the Postgres of `aiophlo postgres`.",
    ),
]
ListenUrl = Annotated[
    str | None,
    typer.Option(help="Where it is without a pooler; by default the same."),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When sending becomes worthless: 90s, 30m, 4h, or a time such as"
        " 2026-11-28T18:00+01:00, of this machine's zone if it names none. Within a day"
        " otherwise.",
    ),
]
QueueReport = Annotated[
    bool,
    typer.Option(
        "--report",
        help="Show how many wait in the queue, and what came of the others.",
    ),
]
Priority = Annotated[
    int,
    typer.Option(help="Higher ones go first; those above 0 don't queue behind others."),
]
CallbackUrl = Annotated[
    str | None, typer.Option(help="Gets a POST with what came of each row.")
]
WorkerConcurrency = Annotated[
    int,
    typer.Option(
        min=2,
        help="Transfers in hand at most; a quarter of them for those with a priority"
        " above 0.",
    ),
]
KeepDays = Annotated[
    float, typer.Option(help="Days for which it is known what came of a key.")
]
StopWithin = Annotated[
    float,
    typer.Option(
        help="Seconds that what has left has to end, once the worker is to stop."
    ),
]


def time_of(text: str | None) -> float | None:
    """Return the Unix time that `--by` names; None for none.

    Raises:
        UnusableError: It names none, or one that is past.
    """
    if text is None:
        return None
    span = _SPAN.fullmatch(text)
    if span is not None:
        seconds = float(span[1]) * _SECONDS[span[2]]
        if not (math.isfinite(seconds) and seconds > 0):
            raise UnusableError("--by: expected a time to come")
        return time.time() + seconds
    try:
        by = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        example = "2026-11-28T18:00+01:00"
        message = (
            "--by: expected seconds, minutes or hours such as 90s, 30m or 4h, or a time"
            f" such as {example}"
        )
        raise UnusableError(message, plain=example) from error
    if by <= time.time():
        raise UnusableError("--by: expected a time to come")
    return by


def coordinator_at(
    url: str | None, namespace: str, *, listen_url: str | None = None
) -> "PostgresCoordinator":
    """Return what reaches the queue.

    Raises:
        UnusableError: It isn't said where that is, or the extra isn't installed.
        InvalidInputError: It can't be there.
    """
    if url is None:
        raise UnusableError(
            f"--postgres-url: expected where the queue is, or {URL_VARIABLE}"
        )
    with needs_extra("the queue", "queue"):
        from aiophlo.postgres import PostgresCoordinator  # noqa: PLC0415 -- needs the extra
    secret = shared_secret()
    try:
        return PostgresCoordinator(
            url, listen_url=listen_url, namespace=namespace, secret=secret
        )
    except PhloError as error:
        raise UnusableError(f"--postgres-url: {error}") from error
