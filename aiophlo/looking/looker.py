"""Looks for dials in doubt: when, how often, and what that makes of their outcomes."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import attrs

from aiophlo.logs import logger
from aiophlo.looking.call_list import CallList, Reading
from aiophlo.looking.call_records import CallRecord
from aiophlo.looking.caller_ids import CallerIds, Node
from aiophlo.looking.matching import LAG, Match, Window, match
from aiophlo.looking.recent_dials import MadeDial, RecentDials
from aiophlo.model.accounts import Account
from aiophlo.model.actions import DialAction
from aiophlo.model.address_matching import party_of
from aiophlo.model.outcomes import Accepted, InDoubt, Rejected
from aiophlo.model.redaction import mask_id, mask_text
from aiophlo.model.sightings import CallState, Sighting
from aiophlo.sending.sender import Sender

LOOK_FOR: Final = 8.0  # seconds
_LEAST: Final = 1.0  # seconds that the questions of one look have
_LAST_ANSWER: Final = 1.0  # seconds that the last of its answers may take, too
_LONGEST_CALL: Final = 14_400.0  # seconds: Plivo's own limit
# Seconds from one look to the next, where one may settle it at any time.
_PAUSES: Final = (0.5, 1.5, 2.0, 2.0)
_AGAIN: Final = 1.0  # seconds, once all that would be listed is


Others = Callable[[InDoubt, Account, Window], Awaitable[bool]]


async def nobody(_: InDoubt, __: Account, ___: Window) -> bool:
    """Know of no dials of other pools."""
    return False


@attrs.frozen
class LookOptions:
    """How a pool looks.

    Attributes:
        caller_ids: Numbers that its dials call from, and nothing else does; empty if
            they aren't known.
        others_dialled: Says whether another pool's dial can have rung the same phone;
            asked only once a call has been found.
        now: Gives Unix time.
    """

    caller_ids: frozenset[str] = frozenset()
    others_dialled: Others = nobody
    now: Callable[[], float] = time.time


class Looker:
    """Looks for the dials of one pool.

    Args:
        options: How.
        recent: The pool's own dials, of late.

    Attributes:
        caller_ids: What dials call from, as far as it is known.
    """

    def __init__(self, options: LookOptions, recent: RecentDials) -> None:
        self._options = options
        self._recent = recent
        self.caller_ids = CallerIds(options.caller_ids, recent, options.now)
        self._closing = asyncio.Event()

    @property
    def now(self) -> Callable[[], float]:
        """What gives Unix time."""
        return self._options.now

    async def others_dialled(
        self, outcome: InDoubt, account: Account, window: Window
    ) -> bool:
        """Say whether another pool's dial can have rung the phone of a dial."""
        return await self._options.others_dialled(outcome, account, window)

    def close(self) -> None:
        """Let no look wait any longer."""
        self._closing.set()

    async def look(
        self,
        outcome: InDoubt,
        sender: Sender,
        *,
        look_for: float = LOOK_FOR,
        is_alone: bool = True,
        wanted: Callable[[Sighting], bool] | None = None,
        once: bool = False,
    ) -> Sighting:
        """Look for the call of a dial in doubt, until it is seen or the time is over.

        Args:
            outcome: What the dial came to; its `left_at` is known.
            sender: Sends to the Voice API for the dial's account.
            look_for: Seconds; 0 looks once.
            is_alone: No dial of another process to the same phone is known that was
                sent at the same time.
            wanted: Says of a sighting whether it is what is looked for; None takes any
                call that is seen.
            once: Look when all calls are listed, in however much of `look_for`, and
                once more only where that may show more.
        """
        search = _Search(outcome, sender, self, self._recent, is_alone)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + look_for
        while True:
            pause = search.pause_once if once else search.pause
            if await self._sleep(min(pause, deadline - loop.time())):
                return search.sighting
            within = max(deadline - loop.time(), _LEAST)
            await _at_most(
                within, self.caller_ids.learn(search.node, search.read_sample)
            )
            if search.is_too_early and not once and loop.time() < deadline:
                continue
            within = max(deadline - loop.time(), _LEAST)
            await _at_most(within + _LAST_ANSWER, search.look(within=within))
            sighting = search.sighting
            settled = sighting.seen if wanted is None else wanted(sighting)
            over = search.refused or loop.time() >= deadline
            if settled or over or (once and not search.is_worth_another):
                _tell(sender, sighting)
                return sighting

    async def _sleep(self, seconds: float) -> bool:
        """Wait; say whether the pool is being closed."""
        if seconds > 0 and not self._closing.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
            except TimeoutError:
                pass
        return self._closing.is_set()


async def _at_most(seconds: float, reading: Coroutine[Any, Any, None]) -> None:
    """Give up what takes longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reading


class _Search:
    """The looks for one dial.

    Attributes:
        sighting: What they came to so far.
        refused: Plivo won't show the list: asking again is no use.
    """

    def __init__(
        self,
        outcome: InDoubt,
        sender: Sender,
        looker: Looker,
        recent: RecentDials,
        is_alone: bool,  # noqa: FBT001 -- private
    ) -> None:
        assert isinstance(outcome.action, DialAction)  # noqa: S101 -- checked by callers
        self._dial = outcome.action
        self._window = Window.of(outcome)
        self._looker = looker
        self._now = looker.now
        self._recent = recent
        self._is_alone = is_alone
        self._account = sender.account
        self._calls = CallList(sender, looker.now)
        self._looks = 0
        self._records: list[CallRecord] = []  # of all looks
        self._whole_at = math.inf  # Unix time of the first look that was whole
        self._was_whole = False  # the latest was
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._outcome = outcome
        self.refused = False
        self.sighting = Sighting(
            state=CallState.UNSEEN, outcome=outcome, complete=False
        )

    @property
    def until_listed(self) -> float:
        """Seconds until all is listed that would be."""
        return self._window.listed_by - self._now()

    @property
    def node(self) -> Node:
        """PHLO and node of the dial."""
        return self._dial.phlo_id, self._dial.node_id

    @property
    def _caller_ids(self) -> frozenset[str]:
        return self._looker.caller_ids.known(self.node)

    async def read_sample(self, dial: MadeDial) -> Reading:
        """Read the calls to the phone of another dial of the node."""
        since = Window.around(dial.left_at).begin
        return await self._calls.read(
            self._dial.phlo_id, dial.to, since=since, within=_LEAST, queued=False
        )

    @property
    def _until_worth(self) -> float:
        """Seconds until a look may settle it where no caller ids are known.

        A call that has just ended may be in no list for a while, and another's be the
        only one there: it takes two looks, that much apart.
        """
        if self._whole_at == math.inf:
            return self._window.end - self._now()
        return max(self.until_listed, self._whole_at + LAG - self._now())

    @property
    def is_too_early(self) -> bool:
        """Whether no call can be told from another's yet."""
        return not self._caller_ids and self._until_worth > 0

    @property
    def is_worth_another(self) -> bool:
        """Whether a look somewhat later may show more than the one just made."""
        return self._was_whole and self._until_worth > 0 and not self._is_long_ago

    @property
    def _is_long_ago(self) -> bool:
        """Whether its call, if there was one, is over and listed as such."""
        return self._now() - self._window.end > _LONGEST_CALL + LAG

    @property
    def pause(self) -> float:
        """Seconds until the next look is worth its requests, or may be."""
        if self._caller_ids and self._looks < len(_PAUSES):
            return _PAUSES[self._looks]
        if self._caller_ids:
            return min(_PAUSES[-1], max(self.until_listed, _AGAIN))
        if self._until_worth > 0:
            return min(self._until_worth, _AGAIN)  # they may be learned meanwhile
        return _AGAIN if self._looks else 0.0

    @property
    def pause_once(self) -> float:
        """Seconds until a look shows all that is worth looking for."""
        return self._until_worth if self._looks else self.until_listed

    async def look(self, *, within: float) -> None:
        """Look once."""
        self._looks += 1
        self._was_whole = False
        began = self._now()
        was_late_enough = began >= self._window.listed_by
        reading = await self._calls.read(
            self._dial.phlo_id,
            self._dial.to,
            since=self._window.begin,
            within=within,
            # An early look, which only a call from our own number can settle.
            queued=was_late_enough or not self._caller_ids,
        )
        self.refused = isinstance(reading.last, Rejected)
        self._records += reading.records
        self._was_whole = reading.complete
        confirmed = began - self._whole_at >= LAG or self._is_long_ago
        if reading.complete and self._window.end <= began < self._whole_at:
            self._whole_at = self._now()
        complete = reading.complete and was_late_enough and confirmed
        found = self._match(reading, complete=complete)
        if found.proof is not None and await self._is_shared():
            found = attrs.evolve(found, proof=None)
        self.sighting = self._sighted(found, complete=complete)

    async def _is_shared(self) -> bool:
        return await self._looker.others_dialled(
            self._outcome, self._account, self._window
        )

    def _match(self, reading: Reading, *, complete: bool) -> Match:
        left_at = self._outcome.left_at or 0.0
        party = party_of(self._dial.to)
        alone = self._recent.is_alone(party, self._window, left_at)
        return match(
            self._records,
            to=self._dial.to,
            window=self._window.moved(reading.ahead),
            caller_ids=self._caller_ids,
            complete=complete and not self._looker.caller_ids.may_learn(self.node),
            alone=alone and self._is_alone,
        )

    def _sighted(self, found: Match, *, complete: bool) -> Sighting:
        number = len(found.candidates)
        if found.proof is None:
            outcome = attrs.evolve(
                self._outcome, looked=self._outcome.looked + self._looks
            )
            return Sighting(
                state=CallState.UNSEEN,
                outcome=outcome,
                candidates=number,
                others=found.others,
                complete=complete,
            )
        return _seen(found, found.proof, self._accepted(), complete=complete)

    def _accepted(self) -> Accepted:
        doubt = self._outcome
        return Accepted(
            action=doubt.action,
            attempts=doubt.attempts,
            seconds=doubt.seconds + self._loop.time() - self._began,
            waited=doubt.waited,
            request_id=doubt.request_id,
            joined=doubt.joined,
            sighted=True,
        )


def _seen(
    found: Match, record: CallRecord, accepted: Accepted, *, complete: bool
) -> Sighting:
    return Sighting(
        state=record.state,
        outcome=accepted,
        call_uuid=record.call_uuid,
        began_at=record.began_at,
        answered_at=record.answered_at,
        ended_at=record.ended_at,
        hangup_cause=record.hangup_cause,
        hangup_code=record.hangup_code,
        candidates=len(found.candidates),
        others=found.others,
        complete=complete,
    )


def _tell(sender: Sender, sighting: Sighting) -> None:
    action = sighting.outcome.action
    logger.info(
        "looked for the call of a %s in doubt: %s",
        type(action).__name__,
        sighting.state,
        extra={
            "phlo_account": sender.account.auth_id,
            "phlo_action": type(action).__name__,
            "phlo_key": None if action.key is None else mask_text(action.key),
            "phlo_sighting": str(sighting.state),
            "phlo_call_uuid": sighting.call_uuid and mask_id(sighting.call_uuid),
        },
    )
