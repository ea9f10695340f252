"""Answers that come a second time."""

import logging
from typing import Final

import pytest

from aiophlo import Account, WarmTransfer
from aiophlo.protocol.codec import Answer, Request
from aiophlo.sending.replays import RECENT, Replays
from tests.support.doubles import ACCEPTED, ScriptedHttpClient, ScriptedPool, act
from tests.support.virtual_time import run_virtually

ACCOUNT: Final = Account("MAREPLAYS00000000001", "token", quota=None)


def test_repeated_answer_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A cache on the way says yes to transfers that nobody makes."""
    replays = Replays()
    with caplog.at_level(logging.WARNING, logger="aiophlo"):
        replays.note("faad0293-f5f0")
        assert not caplog.records
        replays.note("faad0293-f5f0")
        replays.note("faad0293-f5f0")
        [record] = caplog.records
        replays.note("0000")
        replays.note("0000")
        assert len(caplog.records) == 2
    assert "repeats answers" in record.getMessage()


def test_memory_of_answers_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A pool that sends for weeks must not remember all it was told."""
    replays = Replays()
    for number in range(2 * RECENT):
        replays.note(str(number))
    replays.note("0")  # forgotten
    assert not caplog.records
    replays.note(str(2 * RECENT - 1))
    assert len(caplog.records) == 1


def test_pool_tells_of_answers_that_are_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two customers wait for one transfer, and both were told that it is made."""

    async def cached(_: Request) -> Answer:
        return ACCEPTED

    async def main() -> None:
        http_client = ScriptedHttpClient(cached)
        async with ScriptedPool(ACCOUNT, transports=[http_client]) as pool:
            for number in range(2):
                assert "repeats answers" not in caplog.text
                await pool.send(act(WarmTransfer, number))

    run_virtually(main())
    assert "repeats answers" in caplog.text
