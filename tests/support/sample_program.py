"""What a user of the library writes, for type checkers; nobody runs it."""

from typing import assert_never, assert_type

import aiophlo
from aiophlo import (
    Accepted,
    Account,
    Action,
    InDoubt,
    InDoubtError,
    NotSent,
    NotSentError,
    Outcome,
    Reason,
    Rejected,
    RejectedError,
    SessionPool,
    VerdictError,
    WarmTransfer,
)
from aiophlo.simulator import Simulator


def describe(outcome: Outcome) -> str:
    """Tell all four apart; a fifth would be an error here."""
    match outcome:
        case Accepted(api_id=api_id):
            return f"accepted: {api_id}"
        case Rejected(status=status, error=error):
            return f"rejected: {status} {error}"
        case NotSent(reason=reason, retry_after=wait):
            return f"not sent: {reason} {wait}"
        case InDoubt(action=action, reason=reason):
            return f"in doubt: {reason} {action.phlo_id}"
    assert_never(outcome)


def is_over(outcome: Outcome) -> bool:
    """Use what all four have."""
    assert_type(outcome.action, Action)
    assert_type(outcome.attempts, int)
    return isinstance(outcome, (Accepted, Rejected)) or outcome.seconds > 1.0


async def transfer(pool: SessionPool, action: WarmTransfer) -> str:
    """Send, and use what each error knows without asking whether it is there."""
    try:
        accepted = await pool.send(action)
    except RejectedError as error:
        assert_type(error.outcome, Rejected)
        return f"{error.status} {error.outcome.error}"
    except NotSentError as error:
        assert_type(error.outcome, NotSent)
        assert_type(error.reason, Reason)
        return f"{error.reason} after {error.attempts} in {error.seconds}"
    except InDoubtError as error:
        assert_type(error.outcome, InDoubt)
        return f"{error.reason} {error.action.key}"
    except VerdictError as error:
        assert_type(error.reason, Reason | None)
        return describe(error.outcome)
    assert_type(accepted, Accepted)
    return describe(accepted)


async def batch(pool: SessionPool, actions: list[Action]) -> list[str]:
    """Stream with a journal, as the nightly job does."""
    async with (
        aiophlo.Journal("batch.journal") as journal,
        pool.stream(actions, journal=journal) as outcomes,
    ):
        return [describe(outcome) async for outcome in outcomes]


async def hand_over(pool: SessionPool, router: aiophlo.EventRouter) -> str:
    """Consult, and use the partner's address."""
    node = pool.phlo("p").multi_party_call("n")
    async with pool.consult(
        node, agent="+14152223333", customer="+14152224444", to="+14152225555",
        router=router,
    ) as consult:  # fmt: skip
        return await consult.complete()


def test_of_a_user(phlo_simulator: Simulator) -> None:
    """Take what the fixture gives."""
    assert_type(phlo_simulator.account, Account)
