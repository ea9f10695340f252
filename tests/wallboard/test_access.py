"""Who may see a wallboard: it shows a company's business."""

from typing import Any, Final

import pytest

from aiophlo import InvalidInputError
from aiophlo.wallboard.access import COOKIE, Asked, check_token, cookie_of, may_see

TOKEN: Final = "a token that nobody guesses"  # noqa: S105 -- made up


def asked(**fields: Any) -> Asked:  # noqa: ANN401 -- any of its fields
    """Return a request from this machine."""
    usual = {"host": "localhost:8080", "connection": "keep-alive"}
    headers = {**usual, **fields.pop("headers", {})}
    known = {"method": "GET", "path": "/", "peer": "127.0.0.1", **fields}
    return Asked(**known, headers=headers)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "[::1]"])
def test_this_machine_needs_no_token(host: str) -> None:
    """A newcomer's demo opens at once."""
    assert may_see(asked(headers={"host": host}), None)
    assert may_see(asked(headers={"host": host}, peer="::1"), None)


@pytest.mark.parametrize(
    "fields",
    [
        {"peer": "192.0.2.7"},
        {"peer": None},
        {"peer": "a socket"},
        {"headers": {"x-forwarded-for": "127.0.0.1"}},
        {"headers": {"forwarded": "for=192.0.2.7"}},
        {"headers": {"via": "1.1 proxy"}},
        {"http": "1.0"},
        {"http": "2"},
        {"headers": {"connection": ""}},
        {"headers": {"connection": "close"}},
        {"headers": {"host": "evil.example:8080"}},
        {"headers": {"host": ""}},
    ],
)
def test_nobody_else_sees_it_without_one(fields: dict[str, Any]) -> None:
    """A proxy on this machine, or a page that rebinds its name, is not this machine."""
    assert not may_see(asked(**fields), None)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"token": TOKEN}, True),
        ({"token": TOKEN[:-1]}, False),
        ({"headers": {"authorization": f"Bearer {TOKEN}"}}, True),
        ({"headers": {"authorization": f"bearer  {TOKEN}"}}, True),
        ({"headers": {"authorization": f"Basic {TOKEN}"}}, False),
        ({"headers": {"cookie": f"{COOKIE}={cookie_of(TOKEN)}"}}, True),
        ({"headers": {"cookie": f"{COOKIE}={TOKEN}"}}, False),
        ({"headers": {"cookie": "a=[; =; b"}}, False),
        ({"headers": {"authorization": "Bearer \udcff"}}, False),  # as aiohttp has it
        ({}, False),
    ],
)
def test_token_is_asked_of_everybody_once_there_is_one(
    fields: dict[str, Any], *, allowed: bool
) -> None:
    """Behind a proxy everybody seems to be on this machine."""
    for peer in ("127.0.0.1", "192.0.2.7"):
        assert may_see(asked(peer=peer, **fields), TOKEN) is allowed


@pytest.mark.parametrize(
    "other",
    ['prefs={"dark":1}', "rooms[]=2", "path=/x", "name=é", "flag", f"{COOKIE}=old"],
)
def test_other_cookies_of_a_site_do_not_shut_a_browser_out(other: str) -> None:
    """The page is part of a service that has cookies of its own, such as JSON."""
    ours = f"{COOKIE}={cookie_of(TOKEN)}"
    for cookies in (f"{other}; {ours}", f"{ours}; {other}", f"{other};{ours};"):
        assert may_see(asked(headers={"cookie": cookies}), TOKEN)


def test_cookie_does_not_tell_the_token() -> None:
    """A browser's profile is copied more often than one thinks."""
    assert TOKEN not in cookie_of(TOKEN)


@pytest.mark.parametrize("token", ["", "short", 16 * [1]])
def test_token_that_is_guessed_is_refused(token: Any) -> None:  # noqa: ANN401 -- what is wrong
    """An empty environment variable must not open the page to the world."""
    with pytest.raises(InvalidInputError, match="token"):
        check_token(token)
