"""What is recorded later: nothing is lost, and no fault of a provider's does harm."""

import asyncio
import logging
import threading
from typing import Final

import pytest

from aiophlo.telemetry.backlog import MOST, Backlog

MANY: Final = 20_000


async def test_it_waits_until_there_are_many() -> None:
    """One by one costs twice."""
    backlog, done = Backlog(), list[int]()
    for number in range(MOST - 1):
        backlog.add(done.append, number)
    assert done == []
    backlog.add(done.append, MOST - 1)
    assert done == list(range(MOST))


async def test_few_wait_for_a_second_at_most() -> None:
    """A transfer a minute would be seen an hour later."""
    backlog, done = Backlog(), asyncio.Event()
    backlog.add(done.set)
    async with asyncio.timeout(20.0):
        await done.wait()


async def test_nothing_waits_after_the_end() -> None:
    """What an abandoned action came to would never be seen."""
    backlog, done = Backlog(), list[int]()
    backlog.add(done.append, 1)
    backlog.close()
    assert done == [1]
    backlog.add(done.append, 2)
    assert done == [1, 2]


def test_nothing_waits_without_a_loop() -> None:
    """Nobody would come back to it."""
    done = list[int]()
    Backlog().add(done.append, 1)
    assert done == [1]


async def test_fault_is_logged_once_and_the_rest_is_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A processor's bug would cost the traces of all."""

    def fail() -> None:
        raise RuntimeError("no disk")

    backlog, done = Backlog(), list[int]()
    with caplog.at_level(logging.ERROR, "aiophlo"):
        for number in range(3):
            backlog.add(fail)
            backlog.add(done.append, number)
        backlog.close()
    assert done == [0, 1, 2]
    (record,) = caplog.records
    assert "no disk" in record.getMessage() or "no disk" in str(record.exc_text)


async def test_each_is_recorded_once_though_two_threads_flush() -> None:
    """Metrics are collected in a thread of their own."""
    backlog, done, ended = Backlog(), list[int](), threading.Event()

    def collect() -> None:
        while not ended.is_set():
            backlog.flush()

    thread = threading.Thread(target=collect)
    thread.start()
    for number in range(MANY):
        backlog.add(done.append, number)
    ended.set()
    thread.join()
    backlog.close()
    assert sorted(done) == list(range(MANY))
