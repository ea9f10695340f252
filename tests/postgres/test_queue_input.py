"""What can't be enqueued is refused at once; what a callback's log shows."""

import math

import pytest

from aiophlo import InvalidInputError, NotSent, Outcome, RunPhlo, SessionPool
from aiophlo.postgres import PostgresCoordinator, Worker
from aiophlo.postgres.callbacks import Callbacks
from tests.support.ports import free_port
from tests.support.queues import transfer

LONG = 60.0  # seconds, for a machine that is busy
QUERY = "?token=topsecret"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\\\0"])
async def test_text_that_the_database_can_not_hold_is_refused_at_once(
    queue: PostgresCoordinator, text: str
) -> None:
    """It isn't the database that is away, and others would wait behind it."""
    with pytest.raises(InvalidInputError):
        await queue.enqueue(transfer(1), key=text)
    with pytest.raises(InvalidInputError, match="NUL"):
        await queue.enqueue(RunPhlo(phlo_id="p", parameters={"a": {text: [text]}}))


async def test_text_that_looks_like_an_escape_is_enqueued(
    pool: SessionPool, queue: PostgresCoordinator
) -> None:
    """A backslash is a character like others."""
    action = RunPhlo(phlo_id="p", parameters={"a": "\\u0000", "b": "\U0001f600"})
    key = await queue.enqueue(action)
    async with Worker(pool):
        outcome = await queue.outcome(key, wait=LONG)
    assert isinstance(outcome, Outcome)
    assert not isinstance(outcome, NotSent)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///told",
        "http://a b/",
        "https://x:99999/",
        "https://[::1",
        "https://\ud800/",
        "https://x\0y/",
        "https://x/" + "y" * 2_000,
        "ftp://x/",
    ],
)
async def test_callback_that_nobody_can_get_is_refused(
    queue: PostgresCoordinator, url: str
) -> None:
    """Who waits for it would wait for ever."""
    with pytest.raises(InvalidInputError, match="callback_url: expected"):
        await queue.enqueue(transfer(1), callback_url=url + QUERY)


@pytest.mark.parametrize("priority", [True, 1.0, "1", None, 40_000, math.nan])
async def test_priority_that_is_none_is_refused(
    queue: PostgresCoordinator, priority: int
) -> None:
    """It would be told as an outage of the database, ten seconds later."""
    with pytest.raises(InvalidInputError, match="priority: expected a whole number"):
        await queue.enqueue(transfer(1), priority=priority)


async def test_callback_that_fails_shows_no_secret(
    queue: PostgresCoordinator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a log holds, many can read."""
    monkeypatch.setattr("aiophlo.postgres.callbacks._TRIES", 1)
    url = f"http://user:topsecret@127.0.0.1:{free_port()}/told{QUERY}"
    told = dict.fromkeys(
        ("key", "verdict", "reason", "status", "api_id", "attempts", "seconds")
    )
    journal = queue.queue_journal(keep_days=1.0, serves=True)
    async with journal:
        callbacks = Callbacks(journal, queue.sign)
        one = {**told, "ended_at": 1.0, "url": url, "name": "1", "key": "order-4711"}
        await callbacks._call(one)  # noqa: SLF001 -- waits for it
        await callbacks.close()
    assert "a callback is given up, about 'order-4711': Client" in caplog.text
    assert "topsecret" not in caplog.text
    assert "Traceback" not in caplog.text
