"""What observers and the log are told: every attempt, and every outcome."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from aiophlo.accounts import Account
from aiophlo.addresses import mask_error, mask_text
from aiophlo.outcomes import InDoubt, NotSent, Outcome

logger = logging.getLogger("aiophlo")


@attrs.frozen
class AttemptEnded:
    """One request of an action has its answer, or will have none.

    Attributes:
        account: Whose request it was.
        outcome: What this attempt alone came to.
    """

    account: Account
    outcome: Outcome


@attrs.frozen
class ActionEnded:
    """An action has its outcome. Every action sent gets exactly one.

    Attributes:
        account: Whose action it was.
        outcome: What it came to, over all its attempts.
    """

    account: Account
    outcome: Outcome


Observer = Callable[[AttemptEnded | ActionEnded], object]


class Observers:
    """Those who want to know, and the log.

    Args:
        observers: Called with each event, in order. One that raises is
            logged, and harms nothing else.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def attempt_ended(self, account: Account, outcome: Outcome) -> None:
        """Tell of one attempt."""
        if self._observers:
            self._tell(AttemptEnded(account, outcome))
        if logger.isEnabledFor(logging.DEBUG):
            _log(logging.DEBUG, "attempt %d of %s: %s", account, outcome)

    def action_ended(self, account: Account, outcome: Outcome) -> None:
        """Tell of an outcome."""
        if self._observers:
            self._tell(ActionEnded(account, outcome))
        if isinstance(outcome, InDoubt):
            _log(logging.WARNING, "after %d attempts, %s: %s", account, outcome)
        elif logger.isEnabledFor(logging.INFO):
            _log(logging.INFO, "after %d attempts, %s: %s", account, outcome)

    def _tell(self, event: AttemptEnded | ActionEnded) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 -- its bug changes no outcome
                who = mask_text(repr(observer))
                logger.error("observer %s failed: %s", who, mask_error(error))  # noqa: TRY400 -- its traceback is masked


def _log(level: int, message: str, account: Account, outcome: Outcome) -> None:
    kind = type(outcome.action).__name__
    logger.log(
        level,
        message,
        outcome.attempts,
        kind,
        _summary(outcome),
        extra=_fields(account, kind, outcome),
    )


def _summary(outcome: Outcome) -> str:
    parts = [outcome.verdict]
    if isinstance(outcome, NotSent | InDoubt):
        parts.append(f"({outcome.reason})")
    if outcome.status is not None:
        parts.append(f"status {outcome.status}")
    if outcome.error:
        parts.append(mask_text(outcome.error))
    return " ".join(parts)


def _fields(account: Account, kind: str, outcome: Outcome) -> dict[str, Any]:
    """Return the log record's fields for machines, nothing in the clear."""
    return {
        "phlo_account": account.auth_id,
        "phlo_action": kind,
        "phlo_verdict": outcome.verdict,
        "phlo_reason": getattr(outcome, "reason", None),
        "phlo_status": outcome.status,
        "phlo_api_id": outcome.api_id,
        "phlo_attempts": outcome.attempts,
        "phlo_seconds": round(outcome.seconds, 6),
    }
