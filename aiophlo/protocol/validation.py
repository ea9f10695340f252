"""Checks of what HTTP needs: base URL, proxy, user agent and a borrowed session."""

import ipaddress
from typing import Final

import aiohttp
from yarl import URL

from aiophlo.model.invalid_input import refuse
from aiophlo.model.validation import check_type

_HIGHEST_PORT: Final = 0xFFFF
_LONGEST_URL: Final = 2_000


def check_base_url(
    text: str, *, example: str, name: str = "base_url", allow_plaintext: bool = False
) -> str:
    """Return the URL of an API without its last slash.

    Args:
        text: An http(s) URL without query and fragment.
        example: Shown in the error.
        name: What the error calls it.
        allow_plaintext: It may be http:// on another machine.
    """
    url = _http_url(text)
    if url is None or url.query_string or url.fragment:
        refuse(name, f"an http(s) URL such as {example}")
    if url.user is not None or url.password is not None:
        refuse(name, "no credentials in it; an Account has them")
    if url.scheme == "http" and not (allow_plaintext or _is_loopback(url)):
        refuse(
            name,
            "https://, since http:// shows the credentials to everybody on the way;"
            " allow_plaintext=True if that is meant",
        )
    return str(url).rstrip("/")


def _is_loopback(url: URL) -> bool:
    host = (url.raw_host or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True  # RFC 6761: never anybody else
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def check_proxy(
    text: str | None,
    *,
    base_url: str,
    name: str = "proxy",
    allow_plaintext: bool = False,
) -> str | None:
    """Return the URL of a proxy, which may hold its credentials.

    Args:
        text: An http(s) URL, or None for no proxy.
        base_url: Where the API is. What goes to http:// is read by its proxy.
        name: What the error calls it.
        allow_plaintext: The proxy may read the account's credentials.
    """
    if text is None:
        return None
    if _http_url(text) is None:
        refuse(name, "an http(s) URL such as http://proxy.example:3128")
    if base_url.startswith("http:") and not allow_plaintext:
        refuse(
            name,
            "an https:// base_url with it, since a proxy reads the credentials that go"
            " to http://; allow_plaintext=True if that is meant",
        )
    return text


def _http_url(text: str) -> URL | None:
    try:
        url = URL(text)
        host, port = url.host, url.port
        (url.raw_host or "").encode("idna")  # as it is when it is looked up
    except (TypeError, ValueError):  # UnicodeError is one, too
        return None
    if url.scheme not in {"http", "https"} or not host:
        return None
    return url if port is not None and 0 < port <= _HIGHEST_PORT else None


def check_callback_url(text: str) -> str:
    """Return a URL that is told of outcomes; it is never shown, for what it holds."""
    right = isinstance(text, str) and text.isprintable() and " " not in text
    if not right or len(text) > _LONGEST_URL or _http_url(text) is None:
        refuse("callback_url", "an http(s) URL such as https://service.example/ended")
    return text


def check_user_agent(text: str) -> str:
    """Return `text` if it can stand in a header."""
    if not (isinstance(text, str) and text.isascii() and text.isprintable() and text):
        refuse("user_agent", "visible ASCII characters")
    return text


def check_session(
    session: aiohttp.ClientSession | None, connector: aiohttp.BaseConnector | None
) -> aiohttp.ClientSession | None:
    """Return the caller's own session, which has no connector or user beside it."""
    if session is None:
        return None
    check_type(session, aiohttp.ClientSession, "session")
    if connector is not None:
        refuse("session", "a session or a connector, got both")
    if session.auth is not None:
        refuse("session", "one without auth; an Account has the credentials")
    if session.trust_env and "Authorization" in session.headers:
        # Beside a netrc file's credentials aiohttp would send nothing at all.
        refuse("session", "one without trust_env or without an Authorization header")
    return session
