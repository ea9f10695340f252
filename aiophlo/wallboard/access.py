"""Access to a wallboard: from this machine, or with its token. Pure."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from aiophlo.model.invalid_input import refuse

COOKIE: Final = "aiophlo_wallboard"
_LEAST: Final = 16  # characters of a token
_FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


@attrs.frozen(kw_only=True)
class Asked:
    """A request to a wallboard.

    Attributes:
        method: Such as `GET`.
        path: Below where the wallboard is; empty for that itself without a slash.
        headers: By names in lower case.
        token: As the query gives it.
        peer: Address of who is connected.
        http: Version, such as `1.1`.
        secure: Whether it came over TLS to this server.
        name: Last segment of the path that the wallboard is at.
    """

    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    token: str | None = attrs.field(default=None, repr=False)
    peer: str | None = None
    http: str = "1.1"
    secure: bool = False
    name: str = ""


def check_token(token: str | None) -> str | None:
    """Return the token, if it can be kept secret.

    Raises:
        InvalidInputError: It can't.
    """
    if token is not None and (not isinstance(token, str) or len(token) < _LEAST):
        refuse("token", f"{_LEAST} characters or more that nobody guesses, or None")
    return token


def cookie_of(token: str) -> str:
    """Return what a browser keeps in place of the token."""
    return hashlib.sha256(f"aiophlo wallboard {token}".encode()).hexdigest()


def may_see(asked: Asked, token: str | None) -> bool:
    """Say whether a request may be answered.

    Args:
        asked: The request.
        token: The one that is needed; None where this machine alone may see it.
    """
    if token is None:
        return _is_from_here(asked)
    right = cookie_of(token)
    return has_token(asked, token) or any(_same(one, right) for one in _cookies(asked))


def has_token(asked: Asked, token: str) -> bool:
    """Say whether a request bears the token itself."""
    scheme, _, bearer = asked.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _same(bearer.strip(), token):
        return True
    return _same(asked.token, token)


def _is_from_here(asked: Asked) -> bool:
    """Say whether it was made on this machine, and not by a proxy on it.

    A proxy tells whom it speaks for; or it doesn't pass on that a browser would keep
    the connection, as this is between neighbours alone: nginx, unless told to, says
    nothing else. A page of another site whose name was made to lead here has that
    name as its host.
    """
    headers = asked.headers
    if asked.http != "1.1" or any(name in headers for name in _FORWARDED):
        return False
    if "keep-alive" not in headers.get("connection", "").lower():
        return False
    host = headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return _is_loopback(asked.peer) and name.lower() in _NAMES


def _is_loopback(peer: str | None) -> bool:
    try:
        return peer is not None and ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False


def _cookies(asked: Asked) -> Iterator[str]:
    """Yield what cookies of our name hold.

    `http.cookies` gives all up at a cookie of another program that it can't read.
    """
    for pair in asked.headers.get("cookie", "").split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            yield value.strip()


def _same(given: str | None, right: str) -> bool:
    if given is None:
        return False
    raw = given.encode(errors="surrogateescape")  # bytes that are no text, in a header
    return hmac.compare_digest(raw, right.encode())
