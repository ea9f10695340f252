"""Checks of what a coordinator is made with."""

import re
from typing import Final

from aiophlo.errors import InvalidInputError
from aiophlo.model.redaction import describe_value
from aiophlo.model.validation import check_seconds

SHORTEST_LEASE: Final = 3.0  # seconds: it is looked after once a second
_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_JOURNAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_NOT_IN_JOURNAL: Final = re.compile(r"^[._:-]|[^A-Za-z0-9._:-]")
_SHORTEST_SECRET: Final = 16
_URL: Final = re.compile(r"postgres(ql)?://\S+|\w+ ?=.+")


def check_url(value: str, field: str) -> str:
    """Return where a database is.

    Raises:
        InvalidInputError: It can't be that; the message never shows it, as it may hold
            a password.
    """
    if not isinstance(value, str) or not _URL.fullmatch(value.strip()):
        message = (
            f"{field}: expected a URL such as postgresql://host/database, or libpq's"
            " host=… dbname=…"
        )
        raise InvalidInputError(message, field=field)
    return value.strip()


def check_namespace(value: str) -> str:
    """Return the name of the schema that pools share.

    Raises:
        InvalidInputError: It can't be one.
    """
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        message = (
            "namespace: expected small letters, digits and _, such as aiophlo, at most"
            " 48 of them"
        )
        raise InvalidInputError(message, field="namespace")
    return value


def check_journal_name(value: str) -> str:
    """Return the name of a batch's memory.

    Raises:
        InvalidInputError: It can't be one.
    """
    if not isinstance(value, str) or not _JOURNAL.fullmatch(value):
        message = (
            "name: expected letters, digits and . _ : -, such as nightly-28, at most"
            f" 100 of them, the first a letter or digit; got {_slip_in(value)}"
        )
        raise InvalidInputError(message, field="name")
    return value


def _slip_in(name: object) -> str:
    """Say what is wrong with a name; no more of it is shown: it may hold a number."""
    if not isinstance(name, str):
        return describe_value(name)
    wrong = _NOT_IN_JOURNAL.search(name)
    if wrong is not None:
        return f"{wrong[0]!a} as character {wrong.start() + 1}"
    return f"{len(name)} characters"


def check_share(value: float, field: str) -> float:
    """Return a share of something, above 0 and at most 1.

    Raises:
        InvalidInputError: It can't be one.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{field}: expected a number", field=field)
    if not 0.0 < value <= 1.0:
        message = f"{field}: expected a number above 0 and at most 1"
        raise InvalidInputError(message, field=field)
    return float(value)


def check_secret(value: str | None) -> str | None:
    """Return the secret that pools share.

    Raises:
        InvalidInputError: It can't be one; the message never shows it.
    """
    if value is not None and (
        not isinstance(value, str) or len(value) < _SHORTEST_SECRET
    ):
        message = f"secret: expected text of {_SHORTEST_SECRET} characters or more"
        raise InvalidInputError(message, field="secret")
    return value


def check_lease(value: float) -> float:
    """Return how many seconds a lease is good for: 3 at least.

    Raises:
        InvalidInputError: It can't be that.
    """
    if check_seconds(value, "lease") < SHORTEST_LEASE:
        message = f"lease: expected {SHORTEST_LEASE:g} seconds at least"
        raise InvalidInputError(message, field="lease")
    return float(value)
