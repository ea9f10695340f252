"""A process of the soak: sends until it is told to end, or killed.

What each action comes to goes to a file, by a line before it is begun and one after
it: what was written is there, whatever becomes of the process.
"""

import asyncio
import itertools
import json
import logging
import math
import os
import signal
import time
from collections.abc import Iterator
from typing import Final

import attrs

from aiophlo import Account, SessionPool
from aiophlo.model.actions import Action, AddUser, ColdTransfer, WarmTransfer
from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN
from benchmarks.cluster.told import Line, begun, ended
from benchmarks.soak.actions import singles
from tests.support.doubles import outcome_of

TICK: Final = 0.25  # seconds from one double click to the next
_LATE: Final = 1.0  # seconds after which a click is none of a double click any more
_NUMBERS: Final = 100_000  # actions that one process may send
_HANDS: Final = 4  # that await one action after the other
_PAUSE: Final = 0.6  # seconds of each, between two
_CLICKED: Final = (WarmTransfer, ColdTransfer, AddUser)
_STREAMED: Final = 20  # actions in hand
_SEND_WITHIN: Final = 20.0  # seconds


@attrs.frozen
class Place:
    """Which of the processes one is.

    Attributes:
        number: Of all that ever were: makes its actions' addresses.
        slot: Of those that live at a time.
        slots: How many these are.
        path: File of its lines.
    """

    number: int
    slot: int
    slots: int
    path: str

    def clicks(self, tick: int) -> int:
        """Say how often it clicks: two processes do at a time, one of them twice."""
        return {0: 2, 1: 1}.get((tick + self.slot) % self.slots, 0)


def main(base_url: str, database: str | None, place: Place) -> None:
    """Be such a process."""
    asyncio.run(_run(base_url, database, place))


async def _run(base_url: str, database: str | None, place: Place) -> None:
    logging.getLogger("aiophlo").setLevel(logging.CRITICAL)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    file = os.open(place.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    async with SessionPool(
        Account(AUTH_ID, AUTH_TOKEN),
        base_url=base_url,
        coordinator=PostgresCoordinator(database) if database else None,
        connect=2.0,
        answer_within=1.0,
    ) as pool:
        await _Soaking(pool, place, file, over).run()
    _write(file, {"closed": True})


def _write(file: int, line: Line) -> None:
    os.write(file, json.dumps(line, default=dict).encode() + b"\n")


class _Soaking:
    """Streams, awaits and clicks at the same time."""

    def __init__(
        self, pool: SessionPool, place: Place, file: int, over: asyncio.Event
    ) -> None:
        self._pool = pool
        self._place = place
        self._file = file
        self._over = over
        first = place.number * _NUMBERS
        half = first + _NUMBERS // 2
        self._streamed = singles(range(first, half), place.number)
        self._awaited = singles(range(half, first + _NUMBERS), place.number)
        self._clicks = itertools.count()

    async def run(self) -> None:
        """Do so until it is over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream())
            group.create_task(self._click(group))
            for _ in range(_HANDS):
                group.create_task(self._await_in_turn())

    def _begun(self, action: Action) -> Action:
        coordinated = self._pool.state().coordinated
        _write(self._file, begun(action, time.time(), coordinated=bool(coordinated)))
        return action

    def _taken(self) -> Iterator[Action]:
        for action in self._streamed:
            if self._over.is_set():
                return
            yield self._begun(action)

    async def _stream(self) -> None:
        async with self._pool.stream(
            self._taken(), concurrency=_STREAMED, on_duplicate="send"
        ) as outcomes:
            async for outcome in outcomes:
                _write(self._file, ended(outcome))

    async def _await_in_turn(self) -> None:
        while not self._over.is_set():
            await self._send(next(self._awaited))
            await asyncio.sleep(_PAUSE)

    async def _send(self, action: Action) -> None:
        sending = self._pool.send(self._begun(action), send_within=_SEND_WITHIN)
        _write(self._file, ended(await outcome_of(sending)))

    async def _click(self, group: asyncio.TaskGroup) -> None:
        tick = 0
        while not self._over.is_set():
            if time.time() > tick * TICK + _LATE:
                tick = math.ceil(time.time() / TICK)
            await asyncio.sleep(max(tick * TICK - time.time(), 0.0))
            for _ in range(self._place.clicks(tick)):
                group.create_task(self._send(self._clicked(tick)))
            tick += 1

    def _clicked(self, tick: int) -> Action:
        return _CLICKED[tick % len(_CLICKED)](
            phlo_id="phlo",
            node_id="node",
            trigger_source="+447000000000",
            to=f"+1{tick:010}",
            key=f"{self._place.number} {next(self._clicks)}",
        )
