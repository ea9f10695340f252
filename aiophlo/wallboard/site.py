"""The routes of a wallboard: the page's three files, and the snapshots."""

import functools
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Final
from urllib.parse import quote

import attrs

from aiophlo.wallboard.access import (
    COOKIE,
    Asked,
    check_token,
    cookie_of,
    has_token,
    may_see,
)
from aiophlo.wallboard.board import Wallboard

# No other host, nothing inline, in nobody's frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
EVENT_HEADERS: Final = {
    **_HEADERS,
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",  # nginx would keep it back
}
_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/wallboard.css": ("wallboard.css", "text/css; charset=utf-8"),
    "/wallboard.js": ("wallboard.js", "text/javascript; charset=utf-8"),
}
FIRST: Final = b"retry: 1000\n\n"  # milliseconds until a browser tries again


@attrs.frozen
class Answer:
    """An answer.

    Attributes:
        status: HTTP status.
        headers: Its headers.
        body: Its body; None for the events of `Site.board.feed`.
    """

    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes | None = b""


class Site:
    """The page of a wallboard.

    Args:
        board: What it shows.
        token: What who isn't on this machine has to know; then who is, too.

    Raises:
        InvalidInputError: The token is none that can be kept secret.
    """

    def __init__(self, board: Wallboard, token: str | None) -> None:
        self.board = board
        self._token = check_token(token)

    def answer(self, asked: Asked) -> Answer:
        """Return the answer to a request; never raises."""
        if not may_see(asked, self._token):
            return _text(HTTPStatus.FORBIDDEN, self._why_not())
        if asked.method not in {"GET", "HEAD"}:
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "This page is to be read.")
        return self._found(asked)

    def _found(self, asked: Asked) -> Answer:
        if asked.path == "":
            return _moved(f"{asked.name}/", asked.token)
        if asked.path == "/events":
            return Answer(HTTPStatus.OK, EVENT_HEADERS, None)
        if asked.path == "/snapshot":
            headers = {**_HEADERS, "Content-Type": "application/json"}
            return Answer(HTTPStatus.OK, headers, self.board.feed.encoded())
        if asked.path not in _FILES:
            return _text(HTTPStatus.NOT_FOUND, "There is no such page.")
        if asked.path == "/" and asked.token is not None and self._token is not None:
            return self._welcome(asked, self._token)
        name, kind = _FILES[asked.path]
        headers = {**_HEADERS, "Content-Type": kind}
        return Answer(HTTPStatus.OK, headers, _content(name))

    def _welcome(self, asked: Asked, token: str) -> Answer:
        """Let the browser keep who it is, and take the token out of its URL."""
        if not has_token(asked, token):
            return _moved("./")  # an old link of one who has the cookie
        proxied = asked.headers.get("x-forwarded-proto", "").lower() == "https"
        secure = "; Secure" if asked.secure or proxied else ""
        cookie = f"{COOKIE}={cookie_of(token)}; HttpOnly; SameSite=Lax{secure}"
        moved = _moved("./")
        return attrs.evolve(moved, headers={**moved.headers, "Set-Cookie": cookie})

    def _why_not(self) -> str:
        if self._token is None:
            return (
                "This wallboard is seen from its own machine alone, by a browser or"
                " whatever else sends Connection: keep-alive. To see it from elsewhere,"
                " or through a proxy, give it a token, and open it with ?token=… at the"
                " end of its URL."
            )
        return "Open this wallboard with ?token=… at the end of its URL."


@functools.lru_cache
def _content(name: str) -> bytes:
    return (files("aiophlo.wallboard") / "page" / name).read_bytes()


def _text(status: HTTPStatus, text: str) -> Answer:
    headers = {**_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
    return Answer(status, headers, f"{text}\n".encode())


def _moved(where: str, token: str | None = None) -> Answer:
    query = "" if token is None else f"?token={quote(token, safe='')}"
    return Answer(HTTPStatus.FOUND, {**_HEADERS, "Location": f"{where}{query}"})
