"""What an exception of an exchange says of its connection."""

import errno

import aiohttp
import pytest

from aiophlo.protocol.exchange_errors import was_lost
from aiophlo.protocol.tracked_request import TrackedRequest

RESET = aiohttp.ClientOSError(errno.ECONNRESET, "reset")
ENDED = aiohttp.ServerDisconnectedError()


@pytest.mark.parametrize(
    ("error", "facts", "is_lost"),
    [
        (RESET, {"left": True}, True),
        (ENDED, {"left": True}, True),
        (ENDED, {"left": False}, False),
        (ENDED, {"left": True, "silent": True}, False),  # we ended it
        (RESET, {"left": True, "status": 201}, False),
        (TimeoutError(), {"left": True}, False),
        (aiohttp.ClientPayloadError(), {"left": True}, False),
    ],
)
def test_connection_is_lost_only_if_the_server_ended_it_without_an_answer(
    error: Exception, facts: dict[str, int], *, is_lost: bool
) -> None:
    """One slow answer would have every kept connection made anew for minutes."""
    tracked = TrackedRequest()
    for name, value in facts.items():
        setattr(tracked, name, value)
    assert was_lost(tracked, error) is is_lost
