"""`aiophlo top`: a wallboard in a terminal."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import aiohttp
import typer
from yarl import URL

from aiophlo.cli.exit_codes import Exit, UnusableError, needs_extra
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.options import AsJson
from aiophlo.cli.output import say, say_json
from aiophlo.coordination import AwayError
from aiophlo.wallboard.merging import merged

TOKEN_VARIABLE: Final = "AIOPHLO_WALLBOARD_TOKEN"  # noqa: S105 -- its name
_USUAL_NAMESPACE: Final = "aiophlo"
_DEMO: Final = "http://127.0.0.1:8470/wall/"
_BIGGEST: Final = 4 * 1024 * 1024  # bytes of a snapshot
_AGAIN: Final = 1.0  # seconds until it is tried again
_FIRST_WITHIN: Final = 10.0
_DRAWN_EVERY: Final = 0.25
_FORBIDDEN: Final = (401, 403)

Snapshots = AsyncGenerator[dict[str, Any], None]


def top(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="Of a wallboard, its token being taken from AIOPHLO_WALLBOARD_TOKEN;"
            " or of the database that pools share, with its password in PGPASSWORD.",
        ),
    ] = _DEMO,
    *,
    namespace: Annotated[
        str, typer.Option(help="Name of the schema in that database.")
    ] = _USUAL_NAMESPACE,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once, and end.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Show what a wallboard shows in this terminal, until Ctrl-C."""
    if as_json and not once:
        raise UnusableError("--json: expected --once with it")
    if not _is_database(url):
        _parsed(url)
        if namespace != _USUAL_NAMESPACE:
            raise UnusableError("--namespace: goes with the URL of a database")
    if once:
        return asyncio.run(_show_once(url, namespace, as_json=as_json))
    return asyncio.run(_show(url, namespace))


async def _show_once(url: str, namespace: str, *, as_json: bool) -> int:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none

    from aiophlo.cli.top_view import render  # noqa: PLC0415 -- needs rich

    try:
        async with asyncio.timeout(_FIRST_WITHIN):
            async with contextlib.aclosing(snapshots(url, namespace)) as views:
                view = await _first(views)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        why = _why(error, url)
        message = f"{shown_url(url)}: nothing answers there ({why})"
        raise UnusableError(message) from error
    if as_json:
        say_json(view)
        return Exit.ACCEPTED
    console = Console(highlight=False)
    with console.capture() as text:
        console.print(render(view, 0.0, shown_url(url)))
    say(text.get().rstrip("\n"))
    return Exit.ACCEPTED


async def _first(views: Snapshots) -> dict[str, Any]:
    """Return the first snapshot of which some process has told; else the third one."""
    tries = 3
    async for view in views:
        tries -= 1
        if view["processes"] or not tries:
            return view
    raise ConnectionError("it ended")


class Latest:
    """The newest snapshot, and when it came.

    Attributes:
        view: The snapshot; None before the first.
        at: Loop time at which it came, or at which waiting began.
        why: Why nothing comes; None where nothing is known to be wrong.
    """

    def __init__(self) -> None:
        self.view: dict[str, Any] | None = None
        self.why: str | None = None
        self.at = asyncio.get_running_loop().time()

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return asyncio.get_running_loop().time() - self.at

    async def follow(self, url: str, namespace: str = _USUAL_NAMESPACE) -> None:
        """Take each snapshot as it comes; try again where none does."""
        while True:
            try:
                async with contextlib.aclosing(snapshots(url, namespace)) as views:
                    async for view in views:
                        self.view, self.why = view, None
                        self.at = asyncio.get_running_loop().time()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.why = _why(error, url)
            await asyncio.sleep(_AGAIN)


async def _show(url: str, namespace: str) -> int:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none
    from rich.live import Live  # noqa: PLC0415 -- same

    from aiophlo.cli.top_view import fit, render  # noqa: PLC0415 -- needs rich

    latest, ended = Latest(), asyncio.Event()
    console = Console(highlight=False)
    following = asyncio.ensure_future(latest.follow(url, namespace))
    ending = asyncio.ensure_future(ended.wait())
    with (
        interrupts(lambda _: ended.set()),
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        while not (ending.done() or following.done()):
            shown = render(latest.view, latest.age, shown_url(url), latest.why)
            live.update(fit(shown, console), refresh=True)
            await asyncio.wait(
                {following, ending},
                timeout=_DRAWN_EVERY,
                return_when=asyncio.FIRST_COMPLETED,
            )
    for task in (following, ending):
        task.cancel()
    results = await asyncio.gather(following, ending, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
    return Exit.ACCEPTED


def snapshots(url: str, namespace: str = _USUAL_NAMESPACE) -> Snapshots:
    """Yield snapshots as they come: a wallboard's, or of all pools of a database.

    Raises:
        UnusableError: It isn't shown to us, or there is no wallboard at that URL.
        OSError, aiohttp.ClientError: It can't be reached.
    """
    return _of_database(url, namespace) if _is_database(url) else _of_page(url)


async def _of_database(url: str, namespace: str) -> Snapshots:
    with needs_extra("postgres", "postgres"):
        from aiophlo.postgres.shared_snapshots import watch_snapshots  # noqa: PLC0415 -- needs the extra
    try:
        async with contextlib.aclosing(
            watch_snapshots(url, namespace=namespace)
        ) as told:
            async for parts in told:
                now = time.time()
                known = [{**part, "at": now - part["age"]} for part in parts]
                yield _printable(merged(known, now))
    except AwayError as error:
        raise ConnectionError(str(error)) from error


async def _of_page(url: str) -> Snapshots:
    where = _parsed(url)
    token = os.environ.get(TOKEN_VARIABLE) or where.query.get("token")
    if token is not None and where.raw_user is not None:
        raise UnusableError(f"{shown_url(url)}: expected no user beside a token")
    headers = {"Connection": "keep-alive"}  # as browsers do: it isn't by a proxy
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=10.0)
    async with (
        aiohttp.ClientSession(
            timeout=timeout, read_bufsize=_BIGGEST, headers=headers
        ) as session,
        session.get(where.with_query(None) / "events") as answer,
    ):
        if answer.status in _FORBIDDEN:
            why = f"it is shown to who knows its token: give it in {TOKEN_VARIABLE}"
            raise UnusableError(f"{shown_url(url)}: {why}")
        if answer.content_type != "text/event-stream":
            raise UnusableError(f"{shown_url(url)}: expected the URL of a wallboard")
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield _printable(_decoded(line.removeprefix(b"data: "), url))


def _decoded(line: bytes, url: str) -> dict[str, Any]:
    try:
        view = json.loads(line)
    except ValueError as error:
        raise UnusableError(f"{shown_url(url)}: what comes is no JSON") from error
    if not isinstance(view, dict) or "troubles" not in view:
        raise UnusableError(f"{shown_url(url)}: expected the URL of a wallboard")
    return view


def _is_database(url: str) -> bool:
    return url.startswith(("postgres://", "postgresql://"))


def _printable(value: Any) -> Any:  # noqa: ANN401 -- JSON
    """Return JSON without what would steer a terminal."""
    match value:
        case str():
            return "".join(char if char.isprintable() else " " for char in value)
        case list():
            return [_printable(one) for one in value]
        case dict():
            return {_printable(key): _printable(one) for key, one in value.items()}
    return value


def _parsed(url: str) -> URL:
    try:
        where = URL(url)
    except ValueError as error:
        raise UnusableError("URL: expected one such as " + _DEMO) from error
    if where.scheme not in {"http", "https"} or not where.host:
        raise UnusableError("URL: expected one such as " + _DEMO)
    path = where.path if where.path.endswith("/") else f"{where.path}/"
    return where.with_path(path, keep_query=True)


def _why(error: Exception, url: str) -> str:
    """Return what a database says; of a page the kind alone, as its URL has a token."""
    told = str(error) if _is_database(url) else ""
    return told or type(error).__name__


def shown_url(url: str) -> str:
    """Return a URL without a token, and without a password.

    A database's is libpq's: it may have no host, several, or a password as it is.
    """
    if _is_database(url):
        scheme, _, rest = url.partition("://")
        place, _, query = rest.partition("?")
        if "/" not in place and "@" in query:  # a password with a question mark
            place = rest.rpartition("@")[2].partition("?")[0]
        return f"{scheme}://{place.rpartition('@')[2]}"
    return str(URL(url).with_query(None).with_user(None))
