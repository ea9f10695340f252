"""The metrics: what happened is counted and timed; what is, is looked at when asked.

No address, no id of a call, and no account unless it is asked for.
"""

import functools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from aiophlo.model.accounts import Account
from aiophlo.model.actions import Lane
from aiophlo.model.outcomes import NotSent, Reason
from aiophlo.observed_events import (
    ActionEnded,
    ActionJoined,
    AttemptBegun,
    AttemptEnded,
    HandoverEnded,
    HandoverStep,
    JournalCommitted,
    WebhookReceived,
)
from aiophlo.on_hold import CustomersOnHold
from aiophlo.sending.sender import AccountState
from aiophlo.telemetry.attributes import LANES, base_of, error_type, name_of, place_of
from aiophlo.telemetry.backlog import Backlog

if TYPE_CHECKING:
    from aiophlo.pool import SessionPool

Attributes = Mapping[str, str | int]
# As OpenTelemetry advises for `http.client.request.duration`.
_REQUESTS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
_WAITS: Final = (0.001, 0.005, *_REQUESTS[2:], 30.0, 60.0)
_COMMITS: Final = (0.0005, 0.001, 0.0025, 0.005, *_REQUESTS[1:7], 1.0)
_CALLS: Final = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MOST_SETS: Final = 4_096
_MOST_OVER: Final = 1_000  # handovers about which an alarm may come late
_NOWHERE: Final = Context({"aiophlo": None})  # an empty one would be the current one


DURATIONS: Final = frozenset(
    {
        "http.client.request.duration",
        "aiophlo.client.operation.duration",
        "aiophlo.client.queue.duration",
        "aiophlo.journal.commit.duration",
        "aiophlo.handover.duration",
    }
)


class Metrics:
    """The instruments of one meter.

    Args:
        meter: Makes them.
        with_account: Say on each whose it is, by its `auth_id`.
        without: Names of durations that aren't measured.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        with_account: bool,
        without: Collection[str] = (),
    ) -> None:
        self._with_account = with_account
        self._watched: tuple[_Watched, ...] = ()
        self._watching = threading.Lock()
        self._active: dict[tuple[int, str], Account] = {}
        self._over: deque[tuple[int, str]] = deque(maxlen=_MOST_OVER)
        self._on_hold = CustomersOnHold()
        self._make_attributes()
        self._make_histograms(meter, without)
        self._make_counters(meter)
        self._make_gauges(meter)

    def _make_histograms(self, meter: Meter, without: Collection[str]) -> None:
        def seconds(name: str, text: str, bounds: Iterable[float]) -> "_Record":
            if name in without:
                return _measure_nothing
            return meter.create_histogram(
                name,
                unit="s",
                description=text,
                explicit_bucket_boundaries_advisory=tuple(bounds),
            ).record

        self._requests = seconds(
            "http.client.request.duration", "Each request to Plivo.", _REQUESTS
        )
        self._operations = seconds(
            "aiophlo.client.operation.duration",
            "Each action, from asking to knowing.",
            _WAITS,
        )
        self._queue = seconds(
            "aiophlo.client.queue.duration",
            "The wait of each attempt for a connection and a slot.",
            _WAITS,
        )
        self._commits = seconds(
            "aiophlo.journal.commit.duration", "Each transaction.", _COMMITS
        )
        self._handovers = seconds(
            "aiophlo.handover.duration", "Each handover, to its end.", _CALLS
        )

    def _make_counters(self, meter: Meter) -> None:
        self._throttled = meter.create_counter(
            "aiophlo.throttled", unit="{request}", description="Requests answered 429."
        ).add
        self._joined = meter.create_counter(
            "aiophlo.joined", unit="{action}", description="Double clicks."
        ).add
        self._webhooks = meter.create_counter(
            "aiophlo.webhook.received",
            unit="{request}",
            description="Webhook requests, by event and what became of them.",
        ).add

    def _make_gauges(self, meter: Meter) -> None:
        up_down, gauge = (
            meter.create_observable_up_down_counter,
            meter.create_observable_gauge,
        )
        up_down(
            "aiophlo.client.requests.waiting",
            [self._asked(self._waiting)],
            unit="{action}",
            description="Actions that wait for a slot.",
        )
        up_down(
            "aiophlo.client.requests.in_flight",
            [self._asked(self._in_flight)],
            unit="{request}",
            description="Requests under way.",
        )
        gauge(
            "aiophlo.pace",
            [self._asked(self._pace)],
            unit="{request}/s",
            description="Requests a second that may leave at present.",
        )
        gauge(
            "aiophlo.pace.limit",
            [self._asked(self._pace_limit)],
            unit="{request}/s",
            description="Requests a second that the quotas grant.",
        )
        up_down(
            "aiophlo.handover.active",
            [self._asked(lambda: self._by_account(self._active.values()))],
            unit="{handover}",
            description="Handovers under way.",
        )
        up_down(
            "aiophlo.handover.on_hold",
            [self._asked(self._held)],
            unit="{customer}",
            description="Customers who may be on hold or alone: look at the log.",
        )

    def watch(self, pool: "SessionPool", backlog: Backlog) -> None:
        """Look at a pool whenever metrics are collected, after what it has to record.

        That may be in another thread, so what is looked at is replaced, not changed.
        """
        with self._watching:
            alive = [one for one in self._watched if one[0]() is not None]
            new = weakref.ref(pool), weakref.ref(backlog)
            self._watched = (*alive, new)

    def leave(self, backlog: Backlog, pool: int) -> None:
        """Look no more at a pool that is closed: its quota is another one's now.

        Args:
            backlog: As it was given to `watch`.
            pool: As it is given with its handovers.
        """
        with self._watching:
            self._watched = tuple(
                one for one in self._watched if one[1]() not in {None, backlog}
            )
        for key in [key for key in self._active if key[0] == pool]:
            self._active.pop(key, None)

    def attempt_ended(
        self, begun: AttemptBegun, event: AttemptEnded, caller: Context
    ) -> None:
        """Note how long a request waited, and what it came to.

        Args:
            begun: Its beginning.
            event: Its end.
            caller: Context of who asked for it, whose trace is an example.
        """
        outcome, auth_id = event.outcome, event.account.auth_id
        caller = caller or _NOWHERE
        self._queue(begun.waited, self._queued(begun.lane, auth_id), caller)
        error = error_type(outcome)
        base = base_of(begun.url)
        about = self._requested(begun.method, base, outcome.status, error, auth_id)
        self._requests(event.seconds, about, caller)
        if isinstance(outcome, NotSent) and outcome.reason is Reason.THROTTLED:
            self._throttled(1, self._whose(event.account))

    def action_ended(self, event: ActionEnded | ActionJoined, caller: Context) -> None:
        """Note what an action came to."""
        outcome, auth_id = event.outcome, event.account.auth_id
        name, error = name_of(outcome.action), error_type(outcome)
        about = self._operated(name, outcome.verdict, error, auth_id)
        self._operations(outcome.seconds, about, caller or _NOWHERE)

    def action_joined(self, event: ActionJoined) -> None:
        """Count a double click."""
        name = name_of(event.outcome.action)
        self._joined(1, {"aiophlo.action": name, **self._whose(event.account)})

    def handover_step(self, event: HandoverStep, pool: int) -> None:
        """Note that a handover is under way."""
        self._active[pool, event.id] = event.account
        self._on_hold.hear(event, time.monotonic(), of=pool)

    def handover_ended(self, event: HandoverEnded, pool: int) -> None:
        """Note how a handover ended; who is on hold stays counted for half an hour."""
        key = pool, event.id
        self._active.pop(key, None)
        self._on_hold.hear(event, time.monotonic(), of=pool)
        if event.alarm and key in self._over:
            return  # known too late: it was counted when it ended
        self._over.append(key)
        about = {"aiophlo.phase": event.phase, **self._whose(event.account)}
        if event.alarm:
            about["error.type"] = "on_hold"
        elif event.unseen:
            about["error.type"] = "no_webhook"
        self._handovers(event.seconds, about, None)

    def webhook(self, event: WebhookReceived) -> None:
        """Count a webhook."""
        name = "none" if event.event is None else type(event.event).__name__
        self._webhooks(1, {"aiophlo.event": name, "aiophlo.result": str(event.result)})

    def committed(self, event: JournalCommitted) -> None:
        """Note how long a transaction of a journal took."""
        about = {"error.type": "journal"} if event.failed else {}
        self._commits(event.seconds, about, None)

    def _make_attributes(self) -> None:
        """Keep the few sets of attributes that there are: making one costs."""
        most = functools.lru_cache(maxsize=_MOST_SETS)
        self._queued = most(self._attributes_of_wait)
        self._requested = most(self._attributes_of_request)
        self._operated = most(self._attributes_of_action)

    def _attributes_of_wait(self, lane: Lane, auth_id: str) -> Attributes:
        return {"aiophlo.lane": LANES[lane], **self._account(auth_id)}

    def _attributes_of_request(
        self,
        method: str,
        base: str,
        status: int | None,
        error: str | None,
        auth_id: str,
    ) -> Attributes:
        host, port = place_of(base)
        about: dict[str, str | int] = {
            "http.request.method": method,
            "server.address": host,
            "server.port": port,
            **self._account(auth_id),
        }
        if status is not None:
            about["http.response.status_code"] = status
        return about if error is None else {**about, "error.type": error}

    def _attributes_of_action(
        self, name: str, verdict: str, error: str | None, auth_id: str
    ) -> Attributes:
        about = {
            "aiophlo.action": name,
            "aiophlo.verdict": verdict,
            **self._account(auth_id),
        }
        return about if error is None else {**about, "error.type": error}

    def _account(self, auth_id: str) -> Attributes:
        return {"aiophlo.account": auth_id} if self._with_account else {}

    def _whose(self, account: Account) -> Attributes:
        return self._account(account.auth_id)

    def _asked(
        self, look: Callable[[], Iterable[tuple[float, Attributes]]]
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        """Return what sums up a look, since an instrument takes each value once."""

        def observe(_: CallbackOptions) -> Iterator[Observation]:
            self._catch_up()
            sums: dict[frozenset[tuple[str, str | int]], float] = {}
            for value, about in list(look()):
                key = frozenset(about.items())
                sums[key] = sums.get(key, 0) + value
            for key, value in sums.items():
                yield Observation(value, dict(key))

        return observe

    def _catch_up(self) -> None:
        """Record what still waits: these callbacks come first in a collection."""
        for _, found in self._watched:
            if (backlog := found()) is not None:
                backlog.flush()

    def _pools(self) -> "Iterator[SessionPool]":
        for found, _ in self._watched:
            if (pool := found()) is not None:
                yield pool

    def _states(self) -> Iterator[tuple[Account, AccountState]]:
        for pool in self._pools():
            for account in pool.accounts:
                yield account, pool.state(account)

    def _owners(self) -> Iterator[tuple[Account, AccountState]]:
        """Look at one account for each quota: subaccounts share their slots."""
        for pool in self._pools():
            seen = {account.quota_owner: account for account in pool.accounts}
            for account in seen.values():
                yield account, pool.state(account)

    def _waiting(self) -> Iterator[tuple[float, Attributes]]:
        for account, state in self._owners():
            for lane, waiting in state.waiting.items():
                yield waiting, {"aiophlo.lane": LANES[lane], **self._whose(account)}

    def _in_flight(self) -> Iterator[tuple[float, Attributes]]:
        for account, state in self._states():
            yield state.in_flight, self._whose(account)

    def _pace(self) -> Iterator[tuple[float, Attributes]]:
        for account, state in self._owners():
            if account.quota is not None:
                paused = state.paused_for > 0
                pace = 0.0 if paused else state.pace / account.quota.interval
                yield pace, self._whose(account)

    def _pace_limit(self) -> Iterator[tuple[float, Attributes]]:
        for account, _ in self._owners():
            if account.quota is not None:
                yield 1.0 / account.quota.interval, self._whose(account)

    def _held(self) -> Iterator[tuple[float, Attributes]]:
        held = self._on_hold.at(time.monotonic())
        return self._by_account(one.account for one in held)

    def _by_account(
        self, accounts: Iterable[Account]
    ) -> Iterator[tuple[float, Attributes]]:
        yield 0, {}
        for account in list(accounts):
            yield 1, self._whose(account)


_Watched = tuple["weakref.ref[SessionPool]", "weakref.ref[Backlog]"]
_Record = Callable[[float, Attributes, Context | None], None]


def _measure_nothing(_: float, __: Attributes, ___: Context | None) -> None:
    """Measure nothing: the program does without this duration."""
