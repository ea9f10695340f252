"""`aiophlo top`: a wallboard in a terminal."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import aiohttp
import typer
from yarl import URL

from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.options import AsJson
from aiophlo.cli.output import say, say_json

TOKEN_VARIABLE: Final = "AIOPHLO_WALLBOARD_TOKEN"  # noqa: S105 -- its name
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
            help="Of a wallboard. Its token is taken from AIOPHLO_WALLBOARD_TOKEN.",
        ),
    ] = _DEMO,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once, and end.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Show what a wallboard shows in this terminal, until Ctrl-C."""
    if as_json and not once:
        raise UnusableError("--json: expected --once with it")
    _parsed(url)
    if once:
        return asyncio.run(_show_once(url, as_json=as_json))
    return asyncio.run(_show(url))


async def _show_once(url: str, *, as_json: bool) -> int:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none

    from aiophlo.cli.top_view import render  # noqa: PLC0415 -- needs rich

    try:
        async with asyncio.timeout(_FIRST_WITHIN):
            async with contextlib.aclosing(snapshots(url)) as views:
                view = await anext(views)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        kind = type(error).__name__
        raise UnusableError(f"{_shown(url)}: no wallboard answers ({kind})") from error
    if as_json:
        say_json(view)
        return Exit.ACCEPTED
    console = Console(highlight=False)
    with console.capture() as text:
        console.print(render(view, 0.0, _shown(url)))
    say(text.get().rstrip("\n"))
    return Exit.ACCEPTED


class Latest:
    """The newest snapshot, and when it came.

    Attributes:
        view: The snapshot; None before the first.
        at: Loop time at which it came, or at which waiting began.
    """

    def __init__(self) -> None:
        self.view: dict[str, Any] | None = None
        self.at = asyncio.get_running_loop().time()

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return asyncio.get_running_loop().time() - self.at

    async def follow(self, url: str) -> None:
        """Take each snapshot as it comes; try again where none does."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with contextlib.aclosing(snapshots(url)) as views:
                    async for view in views:
                        self.view = view
                        self.at = asyncio.get_running_loop().time()
            await asyncio.sleep(_AGAIN)


async def _show(url: str) -> int:
    from rich.console import Console  # noqa: PLC0415 -- the other commands need none
    from rich.live import Live  # noqa: PLC0415 -- same

    from aiophlo.cli.top_view import render  # noqa: PLC0415 -- needs rich

    latest, ended = Latest(), asyncio.Event()
    console = Console(highlight=False)
    following = asyncio.ensure_future(latest.follow(url))
    ending = asyncio.ensure_future(ended.wait())
    with (
        interrupts(lambda _: ended.set()),
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        while not (ending.done() or following.done()):
            live.update(render(latest.view, latest.age, _shown(url)), refresh=True)
            await asyncio.wait(
                {following, ending},
                timeout=_DRAWN_EVERY,
                return_when=asyncio.FIRST_COMPLETED,
            )
    for task in (following, ending):
        task.cancel()
    results = await asyncio.gather(following, ending, return_exceptions=True)
    if isinstance(results[0], UnusableError):
        raise results[0]
    return Exit.ACCEPTED


async def snapshots(url: str) -> Snapshots:
    """Yield the snapshots of a wallboard as they come.

    Raises:
        UnusableError: It isn't shown to us, or there is no wallboard at that URL.
        aiohttp.ClientError: It can't be reached.
    """
    where = _parsed(url)
    token = os.environ.get(TOKEN_VARIABLE) or where.query.get("token")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=10.0)
    async with (
        aiohttp.ClientSession(
            timeout=timeout, read_bufsize=_BIGGEST, headers=headers
        ) as session,
        session.get(where.with_query(None) / "events") as answer,
    ):
        if answer.status in _FORBIDDEN:
            why = f"it is shown to who knows its token: give it in {TOKEN_VARIABLE}"
            raise UnusableError(f"{_shown(url)}: {why}")
        if answer.content_type != "text/event-stream":
            raise UnusableError(f"{_shown(url)}: expected the URL of a wallboard")
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield _printable(json.loads(line.removeprefix(b"data: ")))


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


def _shown(url: str) -> str:
    """Return a URL without a token, and without a password."""
    where = URL(url)
    return str(where.with_query(None).with_user(None))
