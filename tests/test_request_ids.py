"""What the answer's X-Request-ID says, and when a doubt left, is on outcomes."""

import time

import pytest

from aiophlo import Account, InDoubt, InDoubtError, SessionPool, WarmTransfer
from aiophlo.simulator import Fault, Simulator
from tests.support.doubles import act, outcome_of, pool_of


async def test_request_id_is_on_outcomes_and_on_joined_ones(
    simulator: Simulator,
) -> None:
    """Whoever asks Plivo's support about a click needs it for either click."""
    async with pool_of(simulator) as pool:
        first = await pool.send(act(WarmTransfer))
        again = await pool.send(act(WarmTransfer))
        simulator.answer_next(400, headers={"X-Request-ID": "r-refused"})
        refused = await outcome_of(pool.send(act(WarmTransfer, 1)))
    assert first.request_id
    assert (again.joined, again.request_id) == (True, first.request_id)
    assert refused.request_id == "r-refused"


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER_READ, Fault.STATUS_503])
async def test_doubt_says_when_it_left(simulator: Simulator, fault: Fault) -> None:
    """Without its time a call can't be told from an earlier one to the same phone."""
    simulator.fault_next(fault)
    async with pool_of(simulator) as pool:
        before = time.time()
        with pytest.raises(InDoubtError) as caught:
            await pool.send(act(WarmTransfer))
        after = time.time()
    assert isinstance(caught.value.outcome, InDoubt)
    left_at = caught.value.outcome.left_at
    assert left_at is not None
    assert before - 0.1 <= left_at <= after


async def test_dial_that_was_refused_at_first_left_when_it_left_again(
    simulator: Simulator,
) -> None:
    """After a 429 its call comes later; looked for before it, it would be unseen."""
    simulator.answer_next(429, headers={"Retry-After": "1"})
    simulator.fault_next(Fault.DROP_AFTER_READ)
    async with pool_of(simulator) as pool:
        before = time.time()
        doubt = await outcome_of(pool.send(act(WarmTransfer)))
        [logged] = pool._account_senders.dials.latest  # noqa: SLF001 -- what looks know
    assert isinstance(doubt, InDoubt)
    assert doubt.attempts == 2
    assert doubt.left_at is not None
    assert doubt.left_at >= before + 0.9
    assert logged.left_at == pytest.approx(doubt.left_at, abs=0.05)


async def test_scoped_token_reaches_the_api(simulator: Simulator) -> None:
    """Sent as Basic, it would be refused."""
    auth_id = "MA" + "S" * 18
    simulator.add_account(auth_id, "stk_scoped")
    async with SessionPool(
        Account(auth_id, "stk_scoped", quota=None), base_url=simulator.base_url
    ) as pool:
        accepted = await pool.send(act(WarmTransfer))
    assert accepted.verdict == "accepted"
    assert [record.account for record in simulator.ledger.requests] == [auth_id]
