"""Circuit breakers: a batch stops sending where everything fails.

Ten actions in a row in doubt, or three refusals in a row for the credentials or for
one PHLO or node, open a breaker on trial: a GET, which rings no phone, then decides
whether it stays open.
"""

from collections.abc import Callable, Collection

import attrs

from aiophlo.model.actions import Action, GetNode, GetPhlo
from aiophlo.model.outcomes import (
    CREDENTIALS_REFUSED,
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
)
from aiophlo.sending.sender import Sender

DOUBTS = 10
REFUSALS = 3
PROBE_WITHIN = 30.0  # seconds for a probe to leave
_NO_ANSWER = frozenset(
    {
        Reason.MISCONFIGURED,
        Reason.NO_BUDGET,
        Reason.STALE_CONNECTION,
        Reason.UNREACHABLE,
    }
)

_Subject = tuple[str, ...]


@attrs.frozen
class _Rule:
    """When a kind of breaker opens.

    Attributes:
        limit: Failures in a row that open it.
        is_failure: Says whether an outcome is one; None if it says nothing of it.
        subject_of: Returns what the breaker is for: an account, or a PHLO or node.
        question_for: Returns the GET that decides whether it stays open.
    """

    limit: int
    is_failure: Callable[[Outcome], bool | None]
    subject_of: Callable[[str, Action], _Subject]
    question_for: Callable[[Action], Action]


@attrs.define
class _Breaker:
    in_a_row: int = 0
    stopped: bool = False


class CircuitBreakers:
    """The breakers of a batch, by the account or node that they are for."""

    def __init__(self) -> None:
        # Made at a first failure, so that there are none in most batches.
        self._breakers: dict[tuple[_Rule, _Subject], _Breaker] = {}

    async def admits(self, sender: Sender, action: Action) -> bool:
        """Say whether no open breaker keeps `action` from being sent; probe first.

        Args:
            sender: Sends for its account; asked for one action at a time.
            action: What would be sent.
        """
        if not self._breakers:
            return True
        for rule in _RULES:
            subject = rule.subject_of(sender.account.auth_id, action)
            breaker = self._breakers.get((rule, subject))
            if breaker is None:
                continue
            if breaker.in_a_row >= rule.limit and not breaker.stopped:
                await _probe(rule, breaker, sender, action)
            if breaker.stopped:
                return False
        return True

    def note(self, sender: Sender, outcome: Outcome) -> None:
        """Count an outcome as a failure or a success of each breaker."""
        if not self._breakers and isinstance(outcome, Accepted):
            return
        for rule in _RULES:
            failed = rule.is_failure(outcome)
            if failed is None:
                continue
            subject = rule.subject_of(sender.account.auth_id, outcome.action)
            breaker = self._breakers.get((rule, subject))
            if failed and breaker is None:
                breaker = self._breakers[rule, subject] = _Breaker()
            if breaker is not None:
                breaker.in_a_row = breaker.in_a_row + 1 if failed else 0


async def _probe(
    rule: _Rule, breaker: _Breaker, sender: Sender, action: Action
) -> None:
    answer = await sender.send(rule.question_for(action), send_within=PROBE_WITHIN)
    # Another action may have had a clear answer in the meantime.
    still = breaker.in_a_row >= rule.limit
    breaker.stopped = still and bool(rule.is_failure(answer))
    breaker.in_a_row = 0


def _is_silent(outcome: Outcome) -> bool | None:
    match outcome:
        case InDoubt():
            return True
        case NotSent(reason=Reason.EXPIRED, attempts=attempts):
            return True if attempts else None  # it got no connection in its time
        case NotSent(reason=reason):
            return True if reason in _NO_ANSWER else None
    return False


def _is_locked_out(outcome: Outcome) -> bool | None:
    return _is_refused(outcome, CREDENTIALS_REFUSED)


def _is_missing(outcome: Outcome) -> bool | None:
    return _is_refused(outcome, {404})


def _is_refused(outcome: Outcome, statuses: Collection[int]) -> bool | None:
    match outcome:
        case Rejected(status=status):
            return status in statuses
        case Accepted():
            return False
    return None


def _account(auth_id: str, action: Action) -> _Subject:
    del action
    return (auth_id,)


def _place(auth_id: str, action: Action) -> _Subject:
    return auth_id, action.phlo_id, getattr(action, "node_id", "")


def _phlo_of(action: Action) -> Action:
    return GetPhlo(phlo_id=action.phlo_id)


def _node_of(action: Action) -> Action:
    node_id = getattr(action, "node_id", None)
    if node_id is None:
        return _phlo_of(action)
    node_type = getattr(action, "node_type", "multi_party_call")
    return GetNode(phlo_id=action.phlo_id, node_id=node_id, node_type=node_type)


_RULES = (
    _Rule(DOUBTS, _is_silent, _account, _phlo_of),
    _Rule(REFUSALS, _is_locked_out, _account, _phlo_of),
    _Rule(REFUSALS, _is_missing, _place, _node_of),
)
