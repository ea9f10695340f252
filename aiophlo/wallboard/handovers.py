"""Open handovers, actions in doubt, webhooks. Pure: times are Unix seconds.

Everything is masked before it is kept.
"""

import re
from collections import Counter, deque
from typing import Any, Final

import attrs

from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, DialAction, MemberAction
from aiophlo.model.outcomes import InDoubt
from aiophlo.model.redaction import mask, mask_id
from aiophlo.observed_events import (
    HandoverEnded,
    HandoverStep,
    WebhookReceived,
    WebhookResult,
)
from aiophlo.on_hold import CustomersOnHold

_OURS: Final = re.compile("[0-9a-f]{16}")
_MOST_OPEN: Final = 10_000
_MOST_OVER: Final = 1_000
_SHOWN: Final = 40
_MOST_DOUBTS: Final = 50
_REMEMBERED: Final = 600.0  # seconds
# What a step is caused by where an event of the call came.
_EVENTS: Final = frozenset(
    {"partner_joined", "partner_left", "agent_left", "customer_left", "former_joined"}
)


@attrs.define
class Handover:
    """A handover that is under way, or was until lately.

    Attributes:
        account: Whose call it is.
        began_at: When it was first heard of.
        phase: Where it stands.
        phase_at: Since when.
        agent: Who began it, masked.
        partner: Who is rung or spoken to, masked.
        customer: Whom they talk to, masked.
        place: PHLO and node.
    """

    account: str
    began_at: float
    phase: str
    phase_at: float
    agent: str = ""
    partner: str = ""
    customer: str = ""
    place: str = ""


class Handovers:
    """The handovers of one pool."""

    def __init__(self) -> None:
        self._open: dict[str, Handover] = {}
        self._held: dict[str, Handover] = {}
        self._over: dict[str, Handover] = {}  # an alarm about them may come late
        self._on_hold = CustomersOnHold()
        self._unseen: deque[float] = deque(maxlen=1_000)
        self._alive_at: float | None = None

    def step(self, event: HandoverStep, now: float) -> bool:
        """Note a phase; say whether a customer is on hold because of it."""
        known = self._known(event.id, event.account, now)
        known.phase, known.phase_at = event.phase, now
        if event.partner is not None:
            known.partner = mask(event.partner)
        known.customer = event.customer or known.customer
        if event.cause in _EVENTS:
            self._alive_at = now
        return self._alarm(event, now)

    def asked(self, handover: str, action: Action) -> None:
        """Note an action of a handover: it says who the agent is, and where."""
        known = self._open.get(handover)
        if known is None:  # its steps are told first
            return
        agent = None
        if isinstance(action, DialAction):
            agent = getattr(action, "trigger_source", None)
        elif isinstance(action, MemberAction):
            agent = action.member
        if agent is not None and not known.agent:
            known.agent = mask(agent)
        node = getattr(action, "node_id", "")
        known.place = f"{mask_id(action.phlo_id)} / {mask_id(node)}"

    def ended(self, event: HandoverEnded, now: float) -> bool:
        """Note an end; say whether a customer is on hold because of it."""
        alarm = self._alarm(event, now)
        known = self._over.pop(event.id, None)
        if known is None:  # else its rings were counted
            known = self._open.pop(event.id, None)
            self._unseen.extend([now] * event.unseen)
        if known is None:
            return alarm
        if event.alarm:
            self._held[event.id] = known
        else:
            self._over[event.id] = known
            if len(self._over) > _MOST_OVER:
                del self._over[next(iter(self._over))]
        return alarm

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return the open ones, how many stand where, and who is on hold."""
        oldest_first = sorted(self._open.items(), key=lambda item: item[1].began_at)
        phases: dict[str, list[float]] = {}
        for _, one in oldest_first:
            phases.setdefault(one.phase, []).append(max(now - one.phase_at, 0.0))
        while self._unseen and now - self._unseen[0] > _REMEMBERED:
            self._unseen.popleft()
        return {
            "phases": {
                phase: {"number": len(ages), "oldest": round(max(ages), 1)}
                for phase, ages in phases.items()
            },
            "handovers": [
                _shown(name, one, now) for name, one in oldest_first[:_SHOWN]
            ],
            "on_hold": self._shown_on_hold(now),
            "unseen": len(self._unseen),
            "unseen_age": _age(self._unseen[-1] if self._unseen else None, now),
            "event_age": _age(self._alive_at, now),
        }

    def _shown_on_hold(self, now: float) -> list[dict[str, Any]]:
        held = self._on_hold.at(now)
        names = {one.handover for one in held}
        self._held = {name: one for name, one in self._held.items() if name in names}
        shown = []
        for one in held:
            known = self._open.get(one.handover) or self._held.get(one.handover)
            known = known or Handover(
                one.account.auth_id, one.since, "on_hold", one.since
            )
            shown.append(
                {**_shown(one.handover, known, now), "age": round(now - one.since, 1)}
            )
        return shown

    def _alarm(self, event: HandoverStep | HandoverEnded, now: float) -> bool:
        return self._on_hold.hear(event, now)

    def _known(self, name: str, account: Account, now: float) -> Handover:
        if name not in self._open:
            if len(self._open) == _MOST_OPEN:  # their ends were lost with an observer
                del self._open[next(iter(self._open))]
            self._open[name] = Handover(account.auth_id, now, "with_agent", now)
        return self._open[name]


def shown_id(name: str) -> str:
    """Return a handover's id as the log has it: random, and no number."""
    return name if _OURS.fullmatch(name) else mask_id(name)


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(now - at, 0.0), 1)


def _shown(name: str, one: Handover, now: float) -> dict[str, Any]:
    return {
        "id": shown_id(name),
        "account": one.account,
        "phase": one.phase,
        "age": round(max(now - one.began_at, 0.0), 1),
        "phase_age": round(max(now - one.phase_at, 0.0), 1),
        "agent": one.agent,
        "partner": one.partner,
        "customer": one.customer,
        "place": one.place,
    }


class Doubts:
    """The last actions that ended in doubt, newest first."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_MOST_DOUBTS)

    def note(
        self, account: Account, outcome: InDoubt, handover: str | None, now: float
    ) -> None:
        """Remember an action in doubt."""
        action = outcome.action
        who = getattr(action, "to", None) or getattr(action, "member", None)
        said = {
            "account": account.auth_id,
            "action": type(action).__name__,
            "who": "" if who is None else mask(who),
            "reason": str(outcome.reason),
            "handover": shown_id(handover or ""),
        }
        self._kept.appendleft((now, said))

    def snapshot(self, now: float) -> list[dict[str, Any]]:
        """Return them with their ages."""
        return [
            {**said, "age": round(max(now - at, 0.0), 1)} for at, said in self._kept
        ]


class Webhooks:
    """What came to the receivers that tell of it, over ten minutes."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, Counter[str]]] = deque(maxlen=11)
        self._heard_at: float | None = None
        self._last_fed_at: float | None = None

    def note(self, event: WebhookReceived, now: float) -> None:
        """Count a request, by what became of it."""
        minute = int(now // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Counter()))
        self._minutes[-1][1][str(event.result)] += 1
        self._heard_at = now
        if event.result is WebhookResult.FED:
            self._last_fed_at = now

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return the counts, and how long ago an event was passed on."""
        results = Counter[str]()
        for minute, counted in self._minutes:
            if minute > now // 60 - 10:
                results.update(counted)
        return {
            "heard": self._heard_at is not None,
            "results": dict(results),
            "last_age": _age(self._last_fed_at, now),
        }
