"""Accepts an account's actions: deduplication and superseding, then delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from aiophlo.logs import logger
from aiophlo.model.actions import Action, DialAction, Lane, PartyKey
from aiophlo.model.outcomes import Accepted, NotSent, Outcome, Reason, Rejected
from aiophlo.sending.deduplication import DialRegistry
from aiophlo.sending.delivery import Delivery, DeliveryContext

if TYPE_CHECKING:
    from aiophlo.coordination import SharedActions

_CLEAR = (Accepted, Rejected)  # nothing is left to try


@attrs.frozen
class AccountState:
    """What an account is busy with.

    Attributes:
        waiting: How many wait for a slot, by lane.
        next_slot_in: Seconds until one more awaited send would have its slot.
        paused_for: Seconds that the present pause after a 429 still lasts.
        in_flight: Requests under way.
        pace: Share of the full pace in use, above 0 and at most 1.
        coordinated: Whether the quota is shared with other pools at present, through a
            coordinator; False without one, and while its database is away.
    """

    waiting: Mapping[Lane, int]
    next_slot_in: float
    paused_for: float
    in_flight: int
    pace: float
    coordinated: bool = False


class ActionsUnderWay:
    """The actions of a pool that have no outcome yet.

    Attributes:
        number: How many.
    """

    def __init__(self) -> None:
        self.number = 0
        self._none_left: asyncio.Event | None = None

    def begin(self) -> None:
        """Count one more."""
        self.number += 1

    def end(self) -> None:
        """Count one less."""
        self.number -= 1
        if self._none_left is not None and not self.number:
            self._none_left.set()

    async def none_left(self) -> None:
        """Wait until every one has its outcome."""
        while self.number:
            self._none_left = asyncio.Event()
            await self._none_left.wait()


class Sender:
    """Sends the actions of one account.

    Args:
        context: What the account's deliveries share.
        under_way: The pool's actions without an outcome.
        check_loop: Raises where it isn't the pool's own event loop that runs.

    Attributes:
        account: Whose actions.
        observers: Who is told.
        dials: The account's dials, for deduplication.
    """

    def __init__(
        self,
        context: DeliveryContext,
        *,
        under_way: ActionsUnderWay,
        check_loop: Callable[[], None],
    ) -> None:
        self.context = context
        self.account = context.account
        self.observers = context.observers
        self.dials = DialRegistry(context.loop)
        self.under_way = under_way
        self.check_loop = check_loop
        self._claims = context.claims
        self._budget = context.budget
        self.shared: SharedActions | None = None

    def heard(self, party: PartyKey, action: str, *, ends_dials: bool) -> None:
        """Hear of an action that was begun in another pool, by its class's name."""
        self._claims.hear(party, action)
        if ends_dials:
            self.dials.cut(party)

    def share(self, actions: SharedActions) -> None:
        """Share the actions from now on with other pools."""
        self.shared = actions

    def send(
        self,
        action: Action,
        *,
        send_within: float | None,
        lane: Lane | None = None,
        once: bool = False,
    ) -> Coroutine[Any, Any, Outcome]:
        """Send `action` and return, when awaited, its outcome.

        Args:
            action: What is asked.
            send_within: Seconds after which sending is worthless.
            lane: Where to queue for a slot; None leaves it to the action.
            once: Let a dial join an equal one that is under way, or was only
                just accepted or left in doubt.

        Raises:
            InvalidInputError: `action` is none of this library's.
        """
        delivery = Delivery(self.context, action, send_within, lane=lane)
        return self.run(delivery, once=once)

    def state(self) -> AccountState:
        """Return what the account is busy with; a subaccount shares its slots."""
        context = self.context
        now = context.loop.time()
        limiter = context.slots.limiter
        behind = context.connections.waiting(Lane.AWAITED)
        return AccountState(
            waiting={lane: limiter.waiting(lane) for lane in Lane},
            next_slot_in=limiter.slot_for(Lane.AWAITED, now, behind=behind) - now,
            paused_for=max(limiter.meter.paused_until - now, 0.0),
            in_flight=context.in_flight,
            pace=limiter.meter.pace(now),
            coordinated=context.coordinator is not None
            and context.coordinator.coordinated,
        )

    async def run(self, delivery: Delivery, *, once: bool = False) -> Outcome:
        """Make the attempts of `delivery`, and tell observers; `once` is as for `send`.

        Raises:
            CancelledError: The caller was cancelled.
            Exception: Only what `before_leaving` raises: the delivery has its
                verdict whatever else goes wrong.
        """
        action = delivery.action
        observers = self.observers
        if observers.listening:
            delivery.id = observers.new_id()
            observers.action_begun(
                self.account, action, delivery.id, delivery.handover, delivery.lane
            )
        if isinstance(action, DialAction):
            key = self.dials.key(action)
            if not (once and self.dials.has_equal(key)):
                self.dials.begin(key, delivery)
            elif (joined := await self._join(key, delivery)) is not None:
                return joined
            delivery.key = key
        else:
            self.dials.note(action)
        self.under_way.begin()
        try:
            delivery.claim = self._claims.begin(action)
            joined = None
            if self.shared is not None:
                joined = await self._share(self.shared, delivery, once=once)
            outcome = joined or await delivery.attempt()
            if not (joined or isinstance(outcome, _CLEAR)):
                outcome = await delivery.go_on(outcome)
        except BaseException as error:
            outcome = delivery.ended_by(error)
            self._end(delivery, outcome)
            if error is delivery.prevented_by or not isinstance(error, Exception):
                raise
            logger.failure("sending failed", error=error)
            return outcome
        self._end(delivery, outcome)
        return outcome

    async def _join(self, key: str, delivery: Delivery) -> Outcome | None:
        """Return an equal dial's outcome; None if `delivery` is to be sent itself."""
        try:
            joined = await self.dials.wait(key, delivery, deadline=delivery.deadline)
        except asyncio.CancelledError:
            self._tell_end(delivery, delivery.cancelled())
            raise
        if joined is None:
            return None
        outcome, leader = joined
        if outcome is None:
            outcome = delivery.not_sent(Reason.EXPIRED)
            self._tell_end(delivery, outcome)
            return outcome
        outcome = attrs.evolve(outcome, action=delivery.action, joined=True)
        self.observers.action_joined(
            self.account, outcome, id=delivery.id, joined=leader
        )
        return outcome

    async def _share(
        self, shared: SharedActions, delivery: Delivery, *, once: bool
    ) -> Outcome | None:
        """Return the outcome of another pool's equal dial; None if there is none."""
        if once and isinstance(delivery.action, DialAction):
            # It waits for the others' word: an abort meanwhile needn't.
            delivery.claim = self._claims.wait(delivery.action, delivery.claim)
            outcome = await shared.begin(delivery)
            if isinstance(outcome, NotSent) and not outcome.joined:
                return delivery.not_sent(outcome.reason)
            return outcome
        shared.register(delivery)
        return None

    def _end(self, delivery: Delivery, outcome: Outcome) -> None:
        """Count it as ended, and tell of it; nothing that fails changes its verdict."""
        try:
            try:
                if delivery.key is not None:
                    self.dials.finish(delivery.key, delivery, outcome, delivery.answer)
                if self.shared is not None:
                    self.shared.finish(delivery, outcome)
            finally:
                self.under_way.end()
                self._claims.settle(outcome)
                self._claims.end(delivery.claim)
            if isinstance(outcome, _CLEAR) and not outcome.joined:
                self._budget.settled()
            self._tell_end(delivery, outcome)
        except Exception as error:  # noqa: BLE001 -- the outcome stands all the same
            logger.failure("an action could not be ended well", error=error)

    def _tell_end(self, delivery: Delivery, outcome: Outcome) -> None:
        if outcome.joined:  # a dial of another pool, whose number isn't known here
            self.observers.action_joined(
                self.account, outcome, id=delivery.id, joined=0
            )
            return
        self.observers.action_ended(
            self.account, outcome, id=delivery.id, handover=delivery.handover
        )
