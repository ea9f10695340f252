"""`aiophlo simulate`: a PHLO API on this machine that rings nobody."""

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

import typer

from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.interrupts import handled
from aiophlo.cli.options import QuotaText, not_negative
from aiophlo.cli.output import say, say_error
from aiophlo.model.accounts import ID_VARIABLE, TOKEN_VARIABLE, Account, Quota

if TYPE_CHECKING:
    from aiophlo.simulator import Simulator

_STDIN = 0


class _Options(TypedDict):
    host: str
    port: int
    quota: tuple[int, float] | None
    latency: float
    seed: int
    faults: str
    ssl: ssl.SSLContext | None


_Host = Annotated[str, typer.Option(help="Address to listen on.")]
_Port = Annotated[
    int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")
]
_Latency = Annotated[
    float,
    typer.Option(callback=not_negative, help="Seconds from a request to its answer."),
]
_Seed = Annotated[int, typer.Option(help="Seed of all chance.")]
_Faults = Annotated[
    str,
    typer.Option(
        metavar="NAME=CHANCE,…",
        help="Chances of faults, such as reset=0.01 or all=0.001, where all stands"
        " for each; a comma between several.",
    ),
]
_Certificate = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="PEM file with the certificate to serve TLS with, and with its key unless"
        " --key names that.",
    ),
]
_Key = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Its key, if in a file of its own."),
]
_UntilStdinCloses = Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)]


def simulate(
    *,
    host: _Host = "127.0.0.1",
    port: _Port = 0,
    quota: QuotaText = "300/5",
    latency: _Latency = 0.05,
    seed: _Seed = 0,
    faults: _Faults = "",
    certificate: _Certificate = None,
    key: _Key = None,
    until_stdin_closes: _UntilStdinCloses = False,
) -> int:
    """Run a PHLO API that rings nobody and remembers everything.

    The first line is its base URL. It takes the credentials in PLIVO_AUTH_ID and
    PLIVO_AUTH_TOKEN if they are set, else a made-up pair that it prints next. It
    runs until it is interrupted or terminated.

    From this machine it also takes orders ($URL is the base URL without /v1):

    \b
      curl $URL/_simulator
      curl $URL/_simulator/ledger
      curl $URL/_simulator/calls -d '{"phlo_id": "p", "node_id": "n",
        "agent": "+14152223333", "customer": "+14152224444"}'
      curl $URL/_simulator/habits -d '{"reaction": "busy", "after": 2}'
      curl $URL/_simulator/faults -d '{"fault": "drop_after_read"}'
      curl $URL/_simulator/answers -d '{"status": 503, "times": 2}'
      curl $URL/_simulator/callback -d '{"url": "http://127.0.0.1:8080/events"}'
      curl $URL/_simulator/wait -d '{"dials": 1, "within": 5}'
      curl -X POST $URL/_simulator/reset
    """  # noqa: D301 -- click's mark for lines to be left alone is that character
    pace = Quota.parse(quota)
    account = _account()
    simulator = _simulator(
        account,
        host=host,
        port=port,
        quota=(pace.limit, pace.per) if pace else None,
        latency=latency,
        seed=seed,
        faults=faults,
        ssl=_tls(certificate, key),
    )
    asyncio.run(
        serve(simulator, made_up=not account, until_stdin_closes=until_stdin_closes)
    )
    return Exit.ACCEPTED


def _simulator(account: Account | None, **options: Unpack[_Options]) -> "Simulator":
    from aiophlo.simulator import (  # noqa: PLC0415 -- the other commands need none
        Simulator,
        parse_chances,
    )

    try:
        parse_chances(options["faults"])
    except ValueError as error:
        raise UnusableError(f"--faults: {error}") from error
    if account is None:
        return Simulator(**options)
    return Simulator(auth_id=account.auth_id, auth_token=account.auth_token, **options)


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise UnusableError("--key: expected --certificate with it")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        message = "--certificate: expected a PEM certificate, with its key or --key"
        raise UnusableError(message) from error
    return context


def _account() -> Account | None:
    """Return whom the environment names, if it names anybody."""
    if os.environ.get(ID_VARIABLE) or os.environ.get(TOKEN_VARIABLE):
        return Account.from_env()
    return None


async def serve(
    simulator: "Simulator", *, made_up: bool, until_stdin_closes: bool
) -> None:
    """Run `simulator` until this process is interrupted or terminated.

    Args:
        simulator: Not yet started.
        made_up: Print its credentials, which are nobody's.
        until_stdin_closes: End, too, when standard input does.

    Raises:
        UnusableError: It can't listen where it should.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(stopped.set)

    with handled(lambda _number, _frame: stop()):
        try:
            await simulator.start()
        except OSError as error:
            why = error.strerror or "unknown"
            raise UnusableError(f"--host, --port: can't listen there: {why}") from error
        try:
            _greet(simulator, made_up=made_up)
            if until_stdin_closes:
                _at_end_of_stdin(stop)
            await stopped.wait()
        finally:
            await simulator.stop()


def _greet(simulator: "Simulator", *, made_up: bool) -> None:
    say(simulator.base_url)  # alone on its line, and flushed: scripts read it
    if made_up:
        say(
            f"{ID_VARIABLE}={simulator.auth_id}",
            f"{TOKEN_VARIABLE}={simulator.auth_token}",
        )
    else:
        say_error(f"takes {ID_VARIABLE} and {TOKEN_VARIABLE} as they are set")


def _at_end_of_stdin(stop: Callable[[], None]) -> None:
    """Call `stop` from a thread that waits for the end of standard input."""

    def wait() -> None:
        while os.read(_STDIN, 4096):  # sys.stdin's lock would hold up the exit
            pass
        stop()

    threading.Thread(target=wait, daemon=True).start()
