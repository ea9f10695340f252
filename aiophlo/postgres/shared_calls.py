"""What events tell of calls, in all pools: told to all, and kept while calls last.

Each event that a router is fed is written down, under keyed digests, and told by a
notice. Whoever begins to listen, or was cut off, reads what is kept. So an event may
come twice, and in another order; it is passed on once.
"""

import asyncio
import base64
import hashlib
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import attrs

from aiophlo.coordination import AwayError
from aiophlo.errors import InvalidInputError
from aiophlo.logs import logger
from aiophlo.loop_guard import LoopGuard
from aiophlo.model.call_events import CallEvent
from aiophlo.postgres.connection import unawaited, wait_for_event
from aiophlo.postgres.operations import Answer, Operations

_APART: Final = 0.01  # seconds from one block of events to the next
_MOST: Final = 100  # events in a block
_PAGE: Final = 500  # events
_SLICE: Final = 50  # events that are read before others have their turn
_UNTOLD: Final = 10_000  # events, while the database is away
_UNSAFE: Final = 5.0  # seconds for which a crash of the server may take what it wrote
_OUT_OF_ORDER: Final = 5.0  # seconds by which something may be written late
_KNOWN: Final = 50_000  # ids of events that aren't passed on again
_LAST_WORDS: Final = 1.0  # seconds for what is untold when the pool closes


class CallDigests:
    """Keyed digests of addresses and ids: the same in all pools that have the key.

    Args:
        key: Of the digests.

    Attributes:
        fingerprint: Tells keys apart, and nothing else of them.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.fingerprint = self.hide("fingerprint")

    def hide(self, text: str) -> str:
        """Return the digest of a text; of nothing, nothing."""
        if not text:
            return text
        raw = text.encode(errors="surrogatepass")  # see `address_matching`
        digest = hashlib.blake2b(raw, key=self._key, digest_size=12).digest()
        return base64.urlsafe_b64encode(digest).decode()


@attrs.frozen
class _Told:
    row: str
    event: CallEvent


def unpacked(packed: list[Any], now: float) -> CallEvent:
    """Return an event that the database tells of, whose `at` is on the loop's clock."""
    number, age, left, unanswered, keys, call_uuid, conference_uuid, called_in = packed
    return CallEvent(
        tuple(keys),
        call_uuid,
        conference_uuid,
        called_in,
        left,
        unanswered,
        number,
        now - age,
    )


async def read_told(
    operations: Operations, fingerprint: str, seconds: float = math.inf
) -> AsyncIterator[list[Any]]:
    """Yield what is kept of calls, in slices: the loop must not be held up.

    Args:
        operations: Asks the database.
        fingerprint: Of the digests.
        seconds: Since when it was told.

    Raises:
        AwayError: The database can't be reached.
    """
    operation = {
        "do": "read_calls",
        "fingerprint": fingerprint,
        "seconds": None if math.isinf(seconds) else seconds,
        "after": None,
        "most": _PAGE,
    }
    while True:
        page = await operations.ask(operation)
        for number, packed in enumerate(page["events"], start=1):
            yield packed
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        if len(page["events"]) < _PAGE:
            return
        operation = {**operation, "after": page["after"]}


class PostgresCalls:
    """What events tell one router, and it tells others, as `coordination.SharedCalls`.

    Args:
        hear: Told of other pools' events, each once.

    Attributes:
        foreign: Events that came under another key.
    """

    def __init__(self, hear: Callable[[CallEvent], object]) -> None:
        self._hear = hear
        self._digests: CallDigests | None = None
        self._known: set[int] = set()
        self._known_in_order: deque[int] = deque()
        self._untold: deque[_Told] = deque()
        self._is_telling = False
        self._asked_at = -math.inf
        self._told_lately: deque[tuple[float, _Told]] = deque()
        self._heard_until = -math.inf  # loop time; what was told before has been heard
        self._hears_all = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_dropped = False
        self.foreign = 0

    def open(self, digests: CallDigests, operations: Operations) -> None:
        """Begin to share, on the running event loop."""
        self._digests = digests
        self._operations = operations
        self._guard = LoopGuard("router")
        self._loop = asyncio.get_running_loop()
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._closed = False

    def hide(self, text: str) -> str:
        """Return the keyed digest of a key or an id; of nothing, nothing."""
        return self._opened.hide(text)

    @property
    def _opened(self) -> CallDigests:
        if self._digests is None:
            message = "router: expected the pool that has its coordinator to be open"
            raise InvalidInputError(message, field="router")
        return self._digests

    def now(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def tell(self, event: CallEvent) -> CallEvent:
        """Tell the routers of all other pools of an event."""
        digests = self._opened
        self._guard.check()
        hide = digests.hide
        hidden = attrs.evolve(
            event,
            keys=tuple(map(hide, event.keys)),
            call_uuid=hide(event.call_uuid),
            conference_uuid=hide(event.conference_uuid),
            id=secrets.randbits(62) + 1,
            at=self._loop.time(),
        )
        self._is_new(hidden.id)
        if not self._closed:
            self._all_told.clear()
            names = (hidden.conference_uuid, hidden.call_uuid, *hidden.keys)
            self._untold.append(_Told(hide("\0".join(names)), hidden))
            self._drop_oldest()
            self.tell_untold()
        return hidden

    def _drop_oldest(self) -> None:
        if len(self._untold) <= _UNTOLD:
            return
        self._untold.popleft()
        if not self._has_dropped:
            self._has_dropped = True
            logger.warning(
                "the oldest events that couldn't be told to other pools are dropped:"
                " there were more than %d",
                _UNTOLD,
            )

    def tell_untold(self) -> None:
        """Tell a block, unless one is under way: the next follows it by itself."""
        if self._is_telling or not self._untold or not self._operations.open:
            return
        self._is_telling = True
        due = max(self._asked_at + _APART, self._loop.time())
        self._loop.call_at(due, self._tell_block)

    def _tell_block(self) -> None:
        now = self._asked_at = self._loop.time()
        block = [self._untold.popleft() for _ in range(min(len(self._untold), _MOST))]

        def answered(asked: asyncio.Future[Answer]) -> None:
            self._is_telling = False
            if asked.cancelled() or asked.exception() is not None:
                self._untold.extendleft(reversed(block))  # told when it is back
                return
            self._keep(block)
            self.tell_untold()
            if not self._is_telling:
                self._has_dropped = False
                self._all_told.set()

        asked = self._operations.ask(
            {
                "do": "tell_calls",
                "fingerprint": self._opened.fingerprint,
                "events": [_packed(told, now) for told in block],
            }
        )
        asked.add_done_callback(answered)

    def _keep(self, block: list[_Told]) -> None:
        """Keep what a crash of the server may take yet."""
        now = self._loop.time()
        while self._told_lately and self._told_lately[0][0] < now - _UNSAFE:
            self._told_lately.popleft()
        self._told_lately.extend((now, told) for told in block)

    def catch_up(self) -> None:
        """Tell what couldn't be told, and read what wasn't heard."""
        self._untold.extendleft(told for _, told in reversed(self._told_lately))
        self._told_lately.clear()
        self.tell_untold()
        if not self._hears_all:
            self._stop_reading()
            unawaited(self._read(), self._tasks)

    def cut_off(self, heard_until: float) -> None:
        """Note that nothing is heard, since a loop time at which all was."""
        self._stop_reading()
        if self._hears_all:
            self._hears_all = False
            self._heard_until = heard_until

    def _stop_reading(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _read(self) -> None:
        try:
            await self._read_pages()
        except AwayError:
            return  # it begins anew when the database is back
        except Exception as error:  # noqa: BLE001 -- a fault must not go unheard
            logger.failure("reading the calls of all pools failed", error=error)

    async def _read_pages(self) -> None:
        seconds = self._loop.time() - self._heard_until + _OUT_OF_ORDER
        fingerprint = self._opened.fingerprint
        async for packed in read_told(self._operations, fingerprint, seconds):
            self._take(packed)
        self._hears_all = True

    def hear(self, details: list[Any]) -> None:
        """Hear a notice of an event, which may be this pool's own."""
        if self._digests is None or self._closed:
            return
        fingerprint, *packed = details
        if fingerprint == self._digests.fingerprint:
            self._take(packed)
            return
        self.foreign += 1
        if self.foreign == 1:
            logger.warning(
                "events of other pools can't be read: give all pools that share them"
                " the same accounts, or their coordinators the same secret; or those"
                " that share nothing another namespace"
            )

    def _take(self, packed: list[Any]) -> None:
        if not self._is_new(packed[0]):
            return
        try:
            self._hear(unpacked(packed, self._loop.time()))
        except Exception as error:  # noqa: BLE001 -- the others must be heard
            logger.failure("an event of another pool was not taken", error=error)

    def _is_new(self, number: int) -> bool:
        if number in self._known:
            return False
        self._known.add(number)
        self._known_in_order.append(number)
        if len(self._known) > _KNOWN:
            self._known.remove(self._known_in_order.popleft())
        return True

    async def close(self) -> None:
        """Tell what is untold, as far as that is quick, and nothing more."""
        if self._digests is None:
            return
        self._closed = True
        self._stop_reading()
        self.tell_untold()
        if self._is_telling:
            await wait_for_event(self._all_told, _LAST_WORDS)


def _packed(told: _Told, now: float) -> list[Any]:
    event = told.event
    return [
        told.row,
        event.id,
        round(now - event.at, 6),
        event.left,
        event.unanswered,
        event.keys,
        event.call_uuid,
        event.conference_uuid,
        event.called_in,
    ]
