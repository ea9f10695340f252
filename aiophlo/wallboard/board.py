"""An observer that counts what a wallboard shows of one pool, and gives snapshots."""

import asyncio
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiophlo.coordination import AwayError, Coordinator
from aiophlo.errors import InvalidInputError
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Lane
from aiophlo.model.outcomes import InDoubt
from aiophlo.model.validation import check_type
from aiophlo.observed_events import (
    ActionBegun,
    ActionEnded,
    ActionJoined,
    AttemptEnded,
    HandoverEnded,
    HandoverStep,
    ObservedEvent,
    WebhookReceived,
)
from aiophlo.pool import SessionPool
from aiophlo.wallboard.feed import Feed
from aiophlo.wallboard.figures import SLICE, Figures
from aiophlo.wallboard.handovers import Doubts, Handovers, Webhooks
from aiophlo.wallboard.merging import merged


class Wallboard:
    """Counts what a pool does over ten minutes, for a page on the wall.

    Make it before the pool sends: what was sent before isn't counted. Give it to the
    receivers of webhooks, too, `Receiver(…, observers=[board])`, so that refused ones
    are seen.

    Args:
        pool: Whose; it is heard from now on.
        name: Of this process, among several that share a coordinator.
        notice: What stands at the top of the page, such as that it is a rehearsal.

    Attributes:
        pool: The same.
        feed: Gives one snapshot a second to all who watch.
    """

    def __init__(
        self,
        pool: SessionPool,
        *,
        name: str = "",
        notice: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pool = check_type(pool, SessionPool, "pool")
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._notice = notice
        self._clock = clock
        self._made_at = clock() - time.monotonic()
        self._figures = {one.auth_id: Figures() for one in pool.accounts}
        self._handovers = Handovers()
        self._doubts = Doubts()
        self._webhooks = Webhooks()
        self._others: list[dict[str, Any]] = []  # what other processes told
        self._asking: asyncio.Task[None] | None = None
        self.feed = Feed(self.snapshot, before=self._ask_others)
        self._heard: Mapping[type, Callable[[Any], None]] = {
            ActionBegun: self._begun,
            AttemptEnded: self._attempt,
            ActionEnded: self._ended,
            ActionJoined: self._ended,
            HandoverStep: self._step,
            HandoverEnded: self._handover_ended,
            WebhookReceived: self._webhook,
        }
        pool.add_observer(self)
        if pool.coordinator is not None:
            pool.coordinator.exhibit(self.part, self._alarm_elsewhere)

    def __repr__(self) -> str:
        return f"<Wallboard of {self.pool!r}>"

    def __call__(self, event: ObservedEvent) -> None:
        """Hear an event of the pool, or of a receiver."""
        hear = self._heard.get(type(event))
        if hear is not None:
            hear(event)

    def _now(self) -> float:
        """Return Unix time by a clock that nobody sets: what was counted stays there.

        A clock that was wrong when this was made, or is set, is told by `part`.
        """
        return self._made_at + time.monotonic()

    def _begun(self, event: ActionBegun) -> None:
        if event.handover is not None:
            self._handovers.asked(event.handover, event.action)

    def _attempt(self, event: AttemptEnded) -> None:
        self._figures[event.account.auth_id].attempt(
            event.outcome, self._now(), seconds=event.seconds, waited=event.waited
        )

    def _ended(self, event: ActionEnded | ActionJoined) -> None:
        now, outcome = self._now(), event.outcome
        if outcome.action.lane is Lane.LOOKED:
            return  # a question for the list of calls: no phone rings for it
        self._figures[event.account.auth_id].ended(outcome, now)
        if isinstance(outcome, InDoubt) and not outcome.joined:
            handover = getattr(event, "handover", None)
            self._doubts.note(event.account, outcome, handover, now)

    def _step(self, event: HandoverStep) -> None:
        if self._handovers.step(event, self._now()):
            self._alarm()

    def _handover_ended(self, event: HandoverEnded) -> None:
        if self._handovers.ended(event, self._now()):
            self._alarm()

    def _alarm(self) -> None:
        self.feed.hurry()
        if self.pool.coordinator is not None:
            self.pool.coordinator.hurry()

    def _alarm_elsewhere(self) -> None:
        if self.feed.watchers:
            self._ask_others(hurry=True)

    def _ask_others(self, *, hurry: bool = False) -> None:
        """Ask the other processes, if there is a coordinator, and don't wait."""
        coordinator = self.pool.coordinator
        if coordinator is None or (self._asking is not None and not hurry):
            return
        loop = asyncio.get_running_loop()
        self._asking = task = loop.create_task(self._ask(coordinator, hurry=hurry))
        task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        if self._asking is task:
            self._asking = None

    async def _ask(self, coordinator: Coordinator, *, hurry: bool) -> None:
        try:
            told = await coordinator.exhibits()
        except AwayError:
            return  # what they told last says how old it is
        now = self._clock()
        self._others = [{**part, "at": now - part["age"]} for part in told]
        if hurry:
            self.feed.hurry()

    def _webhook(self, event: WebhookReceived) -> None:
        self._webhooks.note(event, self._now())

    def snapshot(self) -> dict[str, Any]:
        """Return what the page shows at this moment, as JSON has it."""
        return merged([self.part(), *self._others], self._clock())

    def part(self) -> dict[str, Any]:
        """Return what this process knows, masked and small, for `snapshot`."""
        now = self._now()
        return {
            "name": self._name,
            "at": self._clock(),
            "notice": self._notice,
            "coordinator": self._coordinator(),
            "accounts": [self._account(one, now) for one in self.pool.accounts],
            **self._handovers.snapshot(now),
            "in_doubt": self._doubts.snapshot(now),
            "webhooks": self._webhooks.snapshot(now),
        }

    def _coordinator(self) -> str:
        coordinator = self.pool.coordinator
        if coordinator is None:
            return "none"
        return "reached" if coordinator.coordinated else "away"

    def _account(self, account: Account, now: float) -> dict[str, Any]:
        limit = None if account.quota is None else 1.0 / account.quota.interval
        figures = self._figures[account.auth_id].snapshot(now)
        return {
            "account": account.auth_id,
            "owner": account.quota_owner,
            "limit": limit,
            **self._state(account, limit),
            **figures,
            "slice": figures["slice"] + self._slices_set(now),
        }

    def _slices_set(self, now: float) -> int:
        """Return by how many slices the clock was set: other processes go by it."""
        by = self._clock() - now
        return 0 if abs(by) < SLICE / 2 else math.floor(by / SLICE)

    def _state(self, account: Account, limit: float | None) -> dict[str, Any]:
        try:
            state = self.pool.state(account)
        except InvalidInputError:  # not open yet
            none = dict.fromkeys((lane.name.lower() for lane in Lane), 0)
            return {"pace": limit, "paused_for": 0.0, "waiting": none, "in_flight": 0}
        return {
            "pace": None if limit is None else limit * state.pace,
            "paused_for": round(state.paused_for, 1),
            "waiting": {
                lane.name.lower(): number for lane, number in state.waiting.items()
            },
            "in_flight": state.in_flight,
        }
