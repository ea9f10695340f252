"""What a pool can be given: every value is checked before anything is sent.

Each error names the parameter, and shows no value that may hold a secret.
"""

import inspect
import sys
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

import aiohttp
from yarl import URL

from aiophlo.accounts import Account, Quota
from aiophlo.errors import InvalidInputError
from aiophlo.observing import Observer

_T = TypeVar("_T")
_GREATEST = sys.float_info.max


def _refuse(field: str, right: str, value: object = None) -> NoReturn:
    got = "" if value is None else f", got {type(value).__name__}"
    raise InvalidInputError(f"{field}: expected {right}{got}", field=field)


def check_type(value: _T, kind: type[Any], field: str) -> _T:
    """Return `value` if it is a `kind`."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        got = type(value).__name__
        message = f"{field}: expected {article} {kind.__name__}, got {got}"
        raise InvalidInputError(message, field=field)
    return value


def check_seconds(value: float, field: str, *, least: float = 0.0) -> float:
    """Return `value` as a finite number of seconds, above 0 and at least `least`."""
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (numeric and 0 < value <= _GREATEST and value >= least):
        right = f"{least:g} or more" if least else "above 0"
        message = f"{field}: expected seconds, {right}, got {value!r}"
        raise InvalidInputError(message, field=field)
    return float(value)


def check_count(value: int, field: str) -> int:
    """Return `value` if it is a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"{field}: expected a whole number of 1 or more, got {value!r}"
        raise InvalidInputError(message, field=field)
    return value


def check_base_url(text: str, *, example: str) -> str:
    """Return the URL of an API without its last slash.

    Args:
        text: An http(s) URL without query and fragment.
        example: Shown in the error.
    """
    url = _http_url(text)
    if url is None or url.query_string or url.fragment:
        _refuse("base_url", f"an http(s) URL such as {example}")
    if url.user or url.password:
        _refuse("base_url", "no credentials in it; an Account has them")
    return str(url).rstrip("/")


def check_proxy(text: str | None) -> str | None:
    """Return the URL of a proxy, which may hold its credentials."""
    if text is not None and _http_url(text) is None:
        _refuse("proxy", "an http(s) URL such as http://proxy.example:3128")
    return text


def _http_url(text: str) -> URL | None:
    try:
        url = URL(text)
    except (TypeError, ValueError):
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


def check_user_agent(text: str) -> str:
    """Return `text` if it can stand in a header."""
    if not (isinstance(text, str) and text.isascii() and text.isprintable() and text):
        _refuse("user_agent", "visible ASCII characters")
    return text


def check_callable(value: _T, field: str) -> _T:
    """Return `value` if it can be called."""
    if not callable(value):
        _refuse(field, "a callable", value)
    return value


def check_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return the observers if each can be called."""
    if callable(observers) or not isinstance(observers, Iterable):
        _refuse("observers", "a sequence of callables", observers)
    found = tuple(check_callable(observer, "observers") for observer in observers)
    if any(map(inspect.iscoroutinefunction, found)):
        _refuse("observers", "plain callables: nobody awaits them", observers)
    return found


def check_session(
    session: aiohttp.ClientSession | None, connector: aiohttp.BaseConnector | None
) -> aiohttp.ClientSession | None:
    """Return the caller's own session, which has no connector or user beside it."""
    if session is None:
        return None
    check_type(session, aiohttp.ClientSession, "session")
    if connector is not None:
        _refuse("session", "a session or a connector, got both")
    if session.auth is not None:
        _refuse("session", "one without auth; an Account has the credentials")
    return session


def check_optional(value: _T, kind: type[Any], field: str) -> _T:
    """Return `value` if it is a `kind` or None."""
    return value if value is None else check_type(value, kind, field)


def check_accounts(accounts: tuple[Account, ...]) -> dict[str, Account]:
    """Return the accounts by `auth_id`: one or more, all different, not at odds."""
    known: dict[str, Account] = {}
    for account in accounts:
        if not isinstance(account, Account):
            _refuse("accounts", "Account objects", account)
        if account.auth_id in known:
            _refuse("accounts", "each auth_id once")
        known[account.auth_id] = account
    if not known:
        _refuse("accounts", "one or more, such as Account.from_env()")
    _check_limits(accounts)
    return known


def _check_limits(accounts: tuple[Account, ...]) -> None:
    limits: dict[str, tuple[Quota | None, float | None]] = {}
    for account in accounts:
        own = (account.quota, account.calls_per_second)
        if limits.setdefault(account.quota_owner, own) != own:
            right = "the same quota and calls_per_second on all that share one main"
            _refuse("accounts", f"{right} account")


def check_send_within(seconds: float | None) -> float | None:
    """Return `seconds`, which may be None for ever."""
    return None if seconds is None else check_seconds(seconds, "send_within")


def check_on_duplicate(value: str) -> None:
    """Refuse what is no word for what to do with equal dials."""
    if value not in ("join", "send"):
        _refuse("on_duplicate", "'join' or 'send'")
