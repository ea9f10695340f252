"""Checks of arguments, made before anything is sent.

Each error names the parameter, and shows no value that may hold a secret.
"""

import functools
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from aiophlo.model.accounts import Account, Quota
from aiophlo.model.actions import Lane
from aiophlo.model.addresses import parse_address
from aiophlo.model.invalid_input import refuse
from aiophlo.model.redaction import describe_value

_T = TypeVar("_T")
_GREATEST = sys.float_info.max


def check_type(value: _T, kind: type[Any], field: str) -> _T:
    """Return `value` if it is a `kind`."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        refuse(field, f"{article} {kind.__name__}", value)
    return value


def check_seconds(value: float, field: str, *, least: float = 0.0) -> float:
    """Return `value` as a finite number of seconds, above 0 and at least `least`."""
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (numeric and 0 < value <= _GREATEST and value >= least):
        right = f"{least:g} or more" if least else "above 0"
        refuse(field, f"seconds, {right}, got {describe_value(value)}")
    return float(value)


def check_count(value: int, field: str) -> int:
    """Return `value` if it is a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        refuse(field, f"a whole number of 1 or more, got {describe_value(value)}")
    return value


def check_callable(value: _T, field: str) -> _T:
    """Return `value` if it can be called."""
    if not callable(value):
        refuse(field, "a callable", value)
    return value


def check_async_callable(value: _T, field: str) -> _T:
    """Return `value` if calling it gives something to await.

    Decorators that keep `__wrapped__`, `functools.partial` and objects with an async
    `__call__` are looked through.
    """
    inner: Any = inspect.unwrap(value) if callable(value) else value
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    inner_call = getattr(type(inner), "__call__", None)  # noqa: B004 -- not whether
    if not any(map(inspect.iscoroutinefunction, (inner, inner_call))):
        refuse(field, "an async function (async def)", value)
    return value


def check_optional(value: _T, kind: type[Any], field: str) -> _T:
    """Return `value` if it is a `kind` or None."""
    return value if value is None else check_type(value, kind, field)


def check_accounts(accounts: tuple[Account, ...]) -> dict[str, Account]:
    """Return the accounts by `auth_id`: one or more, all different, not at odds."""
    known: dict[str, Account] = {}
    for account in accounts:
        if not isinstance(account, Account):
            refuse("accounts", "Account objects", account)
        if account.auth_id in known:
            refuse("accounts", "each auth_id once")
        known[account.auth_id] = account
    if not known:
        refuse("accounts", "one or more, such as Account.from_env()")
    _check_limits(accounts)
    return known


def _check_limits(accounts: tuple[Account, ...]) -> None:
    limits: dict[str, tuple[Quota | None, float | None]] = {}
    for account in accounts:
        own = (account.quota, account.calls_per_second)
        if limits.setdefault(account.quota_owner, own) != own:
            right = "the same quota and calls_per_second on all that share one main"
            refuse("accounts", f"{right} account")


def check_send_within(seconds: float | None) -> float | None:
    """Return `seconds`, which may be None for ever."""
    return None if seconds is None else check_seconds(seconds, "send_within")


def check_lane(lane: Lane) -> Lane:
    """Return `lane`, in which many actions may queue."""
    if lane not in (Lane.STREAMED, Lane.AWAITED):
        refuse("lane", "Lane.STREAMED or Lane.AWAITED", lane)
    return Lane(lane)


def check_look_for(seconds: float) -> float:
    """Return `seconds`, which may be 0."""
    is_none = seconds == 0 and not isinstance(seconds, bool)
    return 0.0 if is_none else check_seconds(seconds, "look_for")


def check_caller_ids(values: Sequence[str]) -> frozenset[str]:
    """Return the numbers that dials call from."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        refuse("caller_ids", "a sequence of addresses", values)
    return frozenset(parse_address(value, field="caller_ids") for value in values)


def check_folder(value: object, field: str) -> Path:
    """Return the folder of journals that is meant."""
    if not isinstance(value, str | os.PathLike) or not Path(value).is_dir():
        refuse(field, "an open Journal, or the folder of several", value)
    return Path(value)


def check_on_duplicate(value: str, otherwise: str) -> bool:
    """Return whether a dial that equals another is sent, and not what is otherwise."""
    if value not in (otherwise, "send"):
        refuse("on_duplicate", f"{otherwise!r} or 'send'")
    return value == "send"
