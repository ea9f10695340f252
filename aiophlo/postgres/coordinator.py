"""A coordinator in Postgres, for one pool: both connections, and what goes by them."""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

import psycopg

from aiophlo.coordination import AwayError, Heard, TakeOver
from aiophlo.errors import InvalidInputError
from aiophlo.logs import logger
from aiophlo.model.accounts import Account, Rate
from aiophlo.model.call_events import CallEvent
from aiophlo.model.invalid_input import refuse
from aiophlo.model.validation import check_seconds, check_type
from aiophlo.observed_events import Observer
from aiophlo.postgres.batch_journal import PostgresJournal
from aiophlo.postgres.batch_reader import PostgresJournalReader
from aiophlo.postgres.connection import Connection, said, unawaited, wait_for_event
from aiophlo.postgres.keyed_hash import common_secret
from aiophlo.postgres.listener import Listener
from aiophlo.postgres.migrate import MigrationError, check_version, migrate
from aiophlo.postgres.operations import Answer, Operations
from aiophlo.postgres.pool_shares import PoolShares
from aiophlo.postgres.queue_client import QueueClient
from aiophlo.postgres.queued_actions import QUEUE
from aiophlo.postgres.server_clock import ServerClock
from aiophlo.postgres.shared_actions import PostgresActions
from aiophlo.postgres.shared_calls import CallDigests, PostgresCalls
from aiophlo.postgres.shared_handovers import LOCK, PostgresHandovers
from aiophlo.postgres.shared_meter import SharedMeter
from aiophlo.postgres.shared_snapshots import SharedSnapshots
from aiophlo.postgres.validation import (
    check_journal_name,
    check_lease,
    check_namespace,
    check_secret,
    check_share,
    check_url,
)
from aiophlo.shielding import finish

_OPENING: Final = 3.0  # seconds that a pool waits for the database when it opens
_BEAT: Final = 1.0  # seconds from one sign of life to the next
_NEWS_APART: Final = 0.05  # seconds from one to the next that news may bring forward
_TIDY_EVERY: Final = 60  # signs of life
_STEADY: Final = 10.0  # seconds after which it may be lost again
_MUCH_LONGER: Final = 16.0  # times, where it is lost again and again: of a full disk
_AGAIN: Final = 0.2, 0.5  # seconds to the next try to connect: at least, and at random


class PostgresCoordinator(QueueClient):
    """Lets pools that have the same database keep the promise together.

    Give each pool one of its own, `SessionPool(account, coordinator=…)`, and its router
    the same, `EventRouter(coordinator=…)`. All pools of one namespace share the quota
    of each account, join each other's double clicks, and hear of each other's actions
    on a party; their routers hear of every event that any of them is fed. While the
    database is away each goes on by itself, with its share of the quota; a WARNING says
    so once.

    Args:
        url: Where the database is, such as `postgresql://user@host/database`; what is
            left out, libpq takes from the environment (`PGPASSWORD`, `PGSSLMODE`, …).
        listen_url: Where it is without a pooler: one in transaction mode passes no
            notices on. By default `url`.
        namespace: Schema of the tables. Pools with different ones share nothing.
        migrate: Make the schema, or bring it up to date, before it is used; else
            `aiophlo postgres migrate` has to have done it.
        share_at_start: Share of each quota that this pool uses if the database can't
            be reached from the start, so that nobody knows how many pools there are.
        secret: Key of the digests under which pools tell each other of events, and of
            the signature of a queue's callbacks: text of 16 characters or more. None
            for the tokens of all accounts that the pool has: then only pools with the
            same accounts share events, and callbacks aren't signed.
        lease: Seconds after which others take over the handovers of this pool, its
            rows of a batch and its queued actions if it isn't heard of: 3 at least.

    Raises:
        InvalidInputError: An argument can't be right.
    """

    def __init__(
        self,
        url: str,
        *,
        listen_url: str | None = None,
        namespace: str = "aiophlo",
        migrate: bool = False,
        share_at_start: float = 0.25,
        secret: str | None = None,
        lease: float = 15.0,
    ) -> None:
        super().__init__(
            check_url(url, "url"),
            check_namespace(namespace),
            lease=check_lease(lease),
            secret=check_secret(secret),
        )
        self._listen_url = check_url(
            url if listen_url is None else listen_url, "listen_url"
        )
        self._migrate = check_type(migrate, bool, "migrate")
        self._share_at_start = check_share(share_at_start, "share_at_start")
        self._clock = ServerClock()
        self._meters: list[SharedMeter] = []
        self._actions: list[PostgresActions] = []
        self._calls: list[PostgresCalls] = []
        self._handovers: PostgresHandovers | None = None
        self._snapshots = SharedSnapshots(self._url, self._schema)
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        state = "coordinated" if self.coordinated else "not coordinated"
        return f"<PostgresCoordinator {self._schema!r}, {state}>"

    @property
    def foreign_events(self) -> int:
        """How many events came that are under another key, and can't be read."""
        return sum(calls.foreign for calls in self._calls)

    async def open(
        self, random: Callable[[], float], accounts: Collection[Account]
    ) -> None:
        """Reach the database; without it the pool opens all the same.

        Raises:
            InvalidInputError: It serves a pool already.
            MigrationError: The schema isn't there, or of another version.
        """
        if self._opened:
            message = "coordinator: expected one of its own for each pool"
            raise InvalidInputError(message, field="coordinator")
        self._opened, self._closing = True, False
        self._random = random
        self._loop = asyncio.get_running_loop()
        # Drawn only now: a fork of the process has a number of its own.
        self._number = self._snapshots.number = secrets.randbits(62)
        self._books = Connection(self._url)
        self._operations = Operations(self._books, self._schema, self._clock)
        self._listener = Listener(
            self._listen_url,
            self._schema,
            self._number,
            self._told,
            lambda: self._reach(self._listener.run),
            is_alone=self._is_alone,
            counted=self._counted_alone,
        )
        self._accounts = accounts
        self._digests = CallDigests(common_secret("calls", accounts, self._secret))
        for calls in self._calls:
            calls.open(self._digests, self._operations)
        self._works: set[object] = set()  # of the two tasks, what is under way
        self.shares = PoolShares(self._number, 1.0 / self._share_at_start)
        self._news_of_pools = asyncio.Event()
        self._reached = asyncio.Event()
        self._refused: MigrationError | None = None
        for work in (self._book, self._listener.run):
            unawaited(self._again_and_again(work), self._tasks)
        try:
            await self._until_reached()
        except BaseException:
            await self.close()
            self._opened = False
            raise

    async def _until_reached(self) -> None:
        if not await wait_for_event(self._reached, _OPENING):
            self._say_lost("no connection yet")
        if self._refused is not None:
            raise self._refused

    async def close(self) -> None:
        """Say goodbye, and close both connections, even if this is cancelled."""
        await finish(self._close())

    async def _close(self) -> None:
        self._closing = True
        await self._snapshots.close()
        await self._close_queue()
        for calls in self._calls:
            await calls.close()
        if self._operations.open:
            asked = self._operations.ask({"do": "bye", "pool": self._number})
            await asyncio.wait({asked}, timeout=_BEAT)
            asked.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._books.close()
        self._listener.close()
        self.coordinated = False

    def meter(self, rate: Rate, refresh: Callable[[bool], None]) -> SharedMeter:
        """Return the meter of one rate, as `coordination.Coordinator` says."""
        meter = SharedMeter(
            rate,
            self._operations,
            self._clock,
            self.shares,
            refresh,
            is_coordinated=lambda: self.coordinated,
            time=self._loop.time,
            call_at=self._loop.call_at,
        )
        self._meters.append(meter)
        if self._book in self._works:
            meter.look()
        else:
            meter.go_alone(self._random)
            self._listener.hurry()
        return meter

    def actions(self, account: Account, heard: Heard) -> PostgresActions:
        """Return the actions of one account, as `coordination.Coordinator` says."""
        actions = PostgresActions(account, heard, self._operations, self._number)
        self._actions.append(actions)
        return actions

    def calls(self, hear: Callable[[CallEvent], object]) -> PostgresCalls:
        """Return the calls of all pools, as `coordination.Coordinator` says."""
        calls = PostgresCalls(hear)
        self._calls.append(calls)
        if self._opened and not self._closing:
            calls.open(self._digests, self._operations)
            if self.coordinated:
                calls.catch_up()
        return calls

    def handovers(self, take_over: TakeOver) -> PostgresHandovers:
        """Return this pool's handovers, as `coordination.Coordinator` says."""
        self._handovers = PostgresHandovers(
            self._accounts,
            common_secret("parties", self._accounts, self._secret),
            take_over,
            self._operations,
            digests=self._digests,
            pool=self._number,
            server_clock=self._clock,
            seconds=self._lease,
        )
        return self._handovers

    def attach(self, pool: object) -> None:
        """Hear which pool it serves, as `coordination.Coordinator` says."""
        self._snapshots.attach(pool)

    def exhibit(
        self, part: Callable[[], Mapping[str, Any]], on_alarm: Callable[[], None]
    ) -> None:
        """Tell wallboards of this pool, as `coordination.Coordinator` says."""
        self._snapshots.exhibit(part, on_alarm)

    def hurry(self) -> None:
        """Tell them at once, as `coordination.Coordinator` says."""
        self._snapshots.hurry()

    async def exhibits(self) -> list[dict[str, Any]]:
        """Return what other pools told, as `coordination.Coordinator` says."""
        if not self._opened or self._closing:
            raise AwayError("closed")
        return await self._snapshots.others()

    def journal(
        self,
        name: str,
        *,
        keep_days: float = 30.0,
        observers: Iterable[Observer] = (),
    ) -> PostgresJournal:
        """Return a batch's memory in this database, for several runners at once.

        It is used as a `Journal` is, over a connection of its own; the coordinator
        needn't be open.

        Args:
            name: The batch's, such as `nightly-2026-11-28`: the same in all runners.
            keep_days: Days without a runner after which it is deleted.
            observers: Plain callables, told of every transaction with a
                `JournalCommitted`.

        Raises:
            InvalidInputError: An argument can't be right.
        """
        if name == QUEUE:
            refuse("name", "another one than the queue's")
        return PostgresJournal(
            self._url,
            self._schema,
            check_journal_name(name),
            lease=self._lease,
            keep_days=check_seconds(keep_days, "keep_days"),
            observers=observers,
        )

    def read_journal(self, name: str) -> PostgresJournalReader:
        """Open a batch's memory for reading, as `Journal.read` does; waits for it.

        Raises:
            JournalError: There is none of that name, or it can't be read.
        """
        return PostgresJournalReader(self._url, self._schema, check_journal_name(name))

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        longer = 1.0
        while True:
            began = self._loop.time()
            try:
                await work()
            except Exception as error:  # noqa: BLE001 -- a fault must not end it for ever
                if self._loop.time() - began > _STEADY:
                    longer = 1.0
                elif work in self._works:
                    longer = min(longer * 2, _MUCH_LONGER)
                self._ended(work, error)
            least, spread = _AGAIN
            await asyncio.sleep((least + self._random() * spread) * longer)

    def _ended(self, work: Callable[[], Awaitable[None]], error: Exception) -> None:
        if not isinstance(error, (AwayError, MigrationError)):
            logger.failure("coordinating pools failed", error=error)
        self._lost(work, error)
        if isinstance(error, MigrationError):
            self._refused = error
            self._reached.set()

    async def _book(self) -> None:
        await self._books.open()
        if self._migrate:
            await self._make_schema()
        await check_version(self._books, self._schema)
        self._clock.forget()
        beating = self._loop.create_task(self._beat())
        beating.add_done_callback(self._beat_ended)
        try:
            await self._operations.run()
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    def _beat_ended(self, beating: asyncio.Task[None]) -> None:
        """Begin anew: without signs of life the others miss a pool that books on."""
        if not beating.cancelled() and (fault := beating.exception()) is not None:
            logger.failure("coordinating pools failed", error=fault)
        self._books.close()

    async def _make_schema(self) -> None:
        try:
            await migrate(self._url, namespace=self._schema)
        except MigrationError as error:
            cause = error.__cause__
            if isinstance(cause, (psycopg.OperationalError, OSError)):
                raise AwayError(said(cause)) from error  # not the schema's fault
            raise

    async def _beat(self) -> None:
        beats, due = 0, -math.inf
        tidied: asyncio.Future[Answer] | None = None
        if self._handovers is not None:
            self._handovers.catch_up()
        self.shares.begin(self._loop.time())
        while True:
            self._news_of_pools.clear()
            sign = self.shares.sign_of_life(self._loop.time())
            try:
                seen = await self._operations.ask(sign)
            except AwayError:
                return  # `run` says so
            now = self._loop.time()
            self._share(self.shares.note(now, seen))
            self._reach(self._book)
            if now > due - _NEWS_APART:  # news of pools may have brought it forward
                due = now + _BEAT
                beats += 1
                if self._handovers is not None:
                    self._handovers.beat()
                if beats % _TIDY_EVERY == 0 or _leaves_more(tidied):
                    tidied = self._operations.ask({"do": "tidy", "key": LOCK})
            await asyncio.sleep(_NEWS_APART)
            await wait_for_event(self._news_of_pools, due - self._loop.time())

    def _share(self, kept: float) -> None:
        """Give up booked slots, but for this part of them."""
        if kept < 1.0:
            for meter in self._meters:
                meter.thin(kept, self._random)

    def _reach(self, work: Callable[[], Awaitable[None]]) -> None:
        self._works.add(work)
        if work == self._book:
            for actions in self._actions:  # before anybody could join what has ended
                actions.tell_untold()
            for meter in self._meters:
                meter.share_again()
            for calls in self._calls:
                calls.tell_untold()  # also while others aren't heard
        if self.coordinated or len(self._works) < len(self._tasks):
            return
        self.coordinated = True
        if self._reached.is_set():
            logger.info("coordinated again, by %s", self._schema)
        self._reached.set()
        for actions in self._actions:
            actions.catch_up()
        for calls in self._calls:
            calls.catch_up()

    def _lost(self, work: Callable[[], Awaitable[None]], error: Exception) -> None:
        books = work == self._book
        is_news = self.coordinated or (books and work in self._works)
        self._works.discard(work)
        if self._closing:
            return
        if not books:
            for calls in self._calls:
                calls.cut_off(self._listener.heard_until)
        self.coordinated = False
        if is_news and books:
            self._say_lost(str(error))
        elif is_news:  # the other connection may be lost, too, and say so
            self._loop.call_later(_BEAT, self._say_deaf, str(error))
        if books:  # one that only doesn't hear books as ever
            self._listener.hurry()
            for meter in self._meters:
                meter.go_alone(self._random)

    def _say_deaf(self, why: str) -> None:
        if self._book in self._works and not (self.coordinated or self._closing):
            self._say_lost(why)

    def _say_lost(self, why: str) -> None:
        if self._book in self._works:
            logger.warning("other pools are not heard at present (%s)", why)
            return
        logger.warning(
            "the database that coordinates pools is away (%s): this one goes on by"
            " itself, at 1/%.3g of each quota",
            why,
            self.shares.pools,
        )

    def _told(self, kind: str, details: list[Any]) -> None:
        if kind in {"paused", "taken"}:
            name, news = details
            for meter in self._meters:
                if meter.name == name:
                    (meter.told if kind == "paused" else meter.taken)(news)
            return
        if kind in {"watched", "shown"}:
            self._snapshots.hear(kind, details)
            return
        if kind in {"queued", "ended"}:
            self._hear_queue(kind, details)
            return
        if kind == "call":
            for calls in self._calls:
                calls.hear(details)
            return
        if kind in {"alone", "still_alone"}:
            self._hear_alone(kind == "alone", *details)
            return
        for actions in self._actions:
            actions.hear(kind, details)

    def _is_alone(self) -> bool:
        """Say whether this pool sends by itself; one that only opens sends nothing."""
        return self._book not in self._works and bool(self._meters)

    def _counted_alone(self, pools: int) -> None:
        """Keep to a smaller share, by itself, if more pools have opened."""
        if self.shares.count_alone(pools):
            for meter in self._meters:
                meter.share_alone()

    def _hear_alone(self, is_news: bool, pool: str, at: float) -> None:  # noqa: FBT001 -- of a notice
        """Leave its share to a pool at once that the database misses only later."""
        if self.shares.hear_alone(self._loop.time(), pool, at, is_news=is_news):
            self._news_of_pools.set()


def _leaves_more(tidied: asyncio.Future[Answer] | None) -> bool:
    """Say whether there was more to delete than one statement may."""
    if tidied is None or not tidied.done() or tidied.exception() is not None:
        return False
    more: bool = tidied.result()["more"]
    return more
