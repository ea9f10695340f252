"""Converts an outcome to its row in the journal, and back."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from aiophlo.journal.reader import KnownRow
from aiophlo.model.actions import Action, DialAction, MemberAction
from aiophlo.model.outcomes import (
    SIGHTED,
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    combine,
    why_of,
)
from aiophlo.model.redaction import mask, mask_id, mask_text

_OUTCOME: Final = KnownRow._fields[KnownRow._fields.index("verdict") :]
SETTLED: Final = _OUTCOME[: _OUTCOME.index("intended_at")]  # as `settled_values` has it
_TEXT_LENGTH = 500  # another program's text is cut there


def masked_address(action: Action) -> str | None:
    """Return whom an action dials or is about, masked; None if nobody."""
    if isinstance(action, DialAction):
        return mask(action.to)
    return mask(action.member) if isinstance(action, MemberAction) else None


def _clean(text: str) -> str:
    # A surrogate, which JSON can smuggle in, would fail the whole journal.
    return text[:_TEXT_LENGTH].encode(errors="replace").decode()


def settled_values(outcome: Outcome) -> tuple[object, ...]:
    """Return an outcome as its row has it, from `verdict` to `seconds`."""
    return (
        outcome.verdict,
        why_of(outcome),
        outcome.status,
        None if outcome.api_id is None else _clean(mask_id(outcome.api_id)),
        None if outcome.error is None else _clean(mask_text(outcome.error)),
        outcome.attempts,
        outcome.seconds,
    )


def outcome_of(known: KnownRow, action: Action) -> Outcome:
    """Return what a row says came of its action."""
    facts: dict[str, Any] = {
        "action": action,
        "attempts": known.attempts or 0,
        "seconds": known.seconds or 0.0,
        "status": known.status,
        "api_id": known.api_id,
        "error": known.error,
    }
    if known.verdict == Accepted.verdict:
        return Accepted(sighted=known.reason == SIGHTED, **facts)
    if known.verdict == Rejected.verdict:
        return Rejected(**facts)
    if known.verdict == NotSent.verdict:
        return NotSent(reason=_reason(known.reason), **facts)
    left_at = known.intended_at  # its intent is on disk when it leaves
    return InDoubt(reason=_reason(known.reason), left_at=left_at, **facts)


def outcome_in(values: Mapping[str, Any], action: Action) -> Outcome:
    """Return what a row's columns, by their names, say came of its action."""
    return outcome_of(KnownRow("", 0, "", *(values[it] for it in _OUTCOME)), action)


def outcome_after(earlier: Outcome | None, outcome: Outcome) -> Outcome:
    """Return what an outcome comes to after an earlier run's of the same action.

    What an earlier run left in doubt stays so unless it is accepted now.
    """
    if not isinstance(earlier, InDoubt):
        return outcome
    attempts = earlier.attempts + outcome.attempts
    return combine(earlier, attrs.evolve(outcome, attempts=attempts))


def is_final(outcome: Outcome, *, include_in_doubt: bool) -> bool:
    """Say whether an action with this outcome is not to be sent again."""
    if isinstance(outcome, InDoubt):
        return not include_in_doubt
    return not isinstance(outcome, NotSent)


def _reason(text: str | None) -> Reason:
    try:
        return Reason(text or "")
    except ValueError:  # a newer aiophlo may know more of them
        return Reason.UNKNOWN
