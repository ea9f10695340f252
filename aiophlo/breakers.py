"""When a batch stops by itself, rather than go on failing.

Ten actions in a row without a clear answer, or three refusals in a row for
the credentials, or for one PHLO or node, are suspicious. A GET, which rings
nobody, then tells whether it is as bad as it looks.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiophlo.actions import Action, GetNode, GetPhlo
from aiophlo.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.sending import Sender

DOUBTS = 10
REFUSALS = 3
PROBE_WITHIN = 30.0  # seconds for a probe to leave
_NO_ANSWER = frozenset({Reason.UNREACHABLE, Reason.NO_BUDGET})


class _Breaker:
    """One suspicion about one account or node."""

    __slots__ = ("in_a_row", "limit", "probe", "stopped")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_a_row = 0
        self.probe: asyncio.Event | None = None
        self.stopped = False

    async def admits(self) -> bool:
        if self.probe is not None:
            await self.probe.wait()
        return not self.stopped

    async def note(
        self, *, suspicious: bool | None, stays: Callable[[], Awaitable[bool]]
    ) -> None:
        """Count an outcome; None tells nothing. Probe when there are too many."""
        if suspicious is None:
            return
        self.in_a_row = self.in_a_row + 1 if suspicious else 0
        if self.in_a_row < self.limit or self.probe is not None or self.stopped:
            return
        self.probe = asyncio.Event()
        try:
            self.stopped = await stays()
        finally:
            self.in_a_row = 0
            self.probe.set()
            self.probe = None


class Breakers:
    """What a batch suspects of the accounts and nodes it sends to."""

    def __init__(self) -> None:
        self._silent: dict[str, _Breaker] = {}
        self._locked_out: dict[str, _Breaker] = {}
        self._missing: dict[tuple[str, ...], _Breaker] = {}

    async def admits(self, sender: Sender, action: Action) -> bool:
        """Say whether it makes sense to send `action`, waiting for a probe."""
        auth_id = sender.account.auth_id
        for breaker in (
            self._silent.get(auth_id),
            self._locked_out.get(auth_id),
            self._missing.get(_place(sender, action)),
        ):
            if breaker is not None and not await breaker.admits():
                return False
        return True

    async def note(self, sender: Sender, outcome: Outcome) -> None:
        """Take note of an outcome, and probe if it is one too many."""
        auth_id = sender.account.auth_id
        place = _place(sender, outcome.action)
        if isinstance(outcome, Accepted):
            self._all_is_well(auth_id, place)
            return
        action = outcome.action
        await self._silent.setdefault(auth_id, _Breaker(DOUBTS)).note(
            suspicious=_is_silent(outcome),
            stays=lambda: _probe(
                sender, _phlo_of(action), lambda o: bool(_is_silent(o))
            ),
        )
        await self._locked_out.setdefault(auth_id, _Breaker(REFUSALS)).note(
            suspicious=_is_refused(outcome, {401, 403}),
            stays=lambda: _probe(
                sender,
                _phlo_of(action),
                lambda o: bool(_is_refused(o, {401, 403})),
            ),
        )
        await self._missing.setdefault(place, _Breaker(REFUSALS)).note(
            suspicious=_is_refused(outcome, {404}),
            stays=lambda: _probe(
                sender, _node_of(action), lambda o: bool(_is_refused(o, {404}))
            ),
        )

    def _all_is_well(self, auth_id: str, place: tuple[str, ...]) -> None:
        for breaker in (
            self._silent.get(auth_id),
            self._locked_out.get(auth_id),
            self._missing.get(place),
        ):
            if breaker is not None:
                breaker.in_a_row = 0


def _is_silent(outcome: Outcome) -> bool | None:
    match outcome:
        case InDoubt():
            return True
        case NotSent(reason=reason):
            return True if reason in _NO_ANSWER else None
    return False


def _is_refused(outcome: Outcome, statuses: set[int]) -> bool | None:
    match outcome:
        case Rejected(status=status):
            return status in statuses
        case Accepted():
            return False
    return None


def _place(sender: Sender, action: Action) -> tuple[str, ...]:
    node_id = getattr(action, "node_id", "")
    return sender.account.auth_id, action.phlo_id, node_id


def _phlo_of(action: Action) -> Action:
    return GetPhlo(phlo_id=action.phlo_id)


def _node_of(action: Action) -> Action:
    node_id = getattr(action, "node_id", None)
    if node_id is None:
        return _phlo_of(action)
    node_type = getattr(action, "node_type", "multi_party_call")
    return GetNode(phlo_id=action.phlo_id, node_id=node_id, node_type=node_type)


async def _probe(
    sender: Sender, question: Action, stays: Callable[[Outcome], bool]
) -> bool:
    answer = await sender.send(question, send_within=PROBE_WITHIN)
    return stays(answer)
