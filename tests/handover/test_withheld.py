"""Callers who withhold their number are handed over like any other."""

from collections.abc import AsyncIterator

import pytest

from aiophlo import CustomerLeftError
from aiophlo.simulator import Call, State
from tests.support.handover_stage import FIRST, PHLO, SECOND, Stage, set_stage

HIDDEN, OTHER_AGENT = "anonymous", "+14152227777"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Prepare a simulator and what hears its events."""
    async with set_stage() as stage:
        yield stage


async def call_in(stage: Stage, node: str, agent: str) -> Call:
    """Let somebody call who withholds their number; wait until it is known."""
    told = len(stage.simulator.posts)
    call = stage.simulator.place_call(PHLO, node, agent=agent, customer=HIDDEN)
    await stage.simulator.wait_for(lambda one: len(one.posts) == told + 2)
    return call


@pytest.mark.parametrize("known", ["text", "conversation", "call"])
async def test_anonymous_caller_is_handed_over(stage: Stage, known: str) -> None:
    """Who hides their number could never be given to a supervisor."""
    call = await call_in(stage, "n2", OTHER_AGENT)
    options: dict[str, object] = {
        "text": {"customer": "Restricted"},  # as somebody else spells it
        "conversation": {"customer": None, "conference_uuid": call.conference_uuid},
        "call": {"customer": None, "customer_call_uuid": call[HIDDEN].call_uuid},
    }[known]  # type: ignore[assignment]
    asked = {**stage.options(agent=OTHER_AGENT), **options}
    node = stage.pool.phlo(PHLO).multi_party_call("n2")
    async with stage.pool.consult(node, **asked) as consult:
        assert "without a number" in repr(consult._status.options)  # noqa: SLF001 -- logged
        assert await consult.complete() == FIRST
    assert call[HIDDEN].state is State.TALKING
    assert stage.rung == [FIRST]
    assert not stage.alarms


async def test_anonymous_caller_who_is_gone_is_noticed(stage: Stage) -> None:
    """The supervisor would be joined to nobody, and the agent be hung up."""
    first = await call_in(stage, "n2", OTHER_AGENT)
    second = await call_in(stage, "n3", "+14152228888")
    pool = stage.pool
    options = stage.options(agent=OTHER_AGENT, customer=HIDDEN)
    other = stage.options(agent="+14152228888", customer=HIDDEN, to=[SECOND])
    async with pool.consult(pool.phlo(PHLO).multi_party_call("n2"), **options) as one:
        node = pool.phlo(PHLO).multi_party_call("n3")
        async with pool.consult(node, **other) as another:
            told = len(stage.simulator.posts)
            first.leave(first[HIDDEN])
            await stage.simulator.wait_for(
                lambda simulator: len(simulator.posts) > told
            )
            assert await another.complete() == SECOND
            assert second[HIDDEN].state is State.TALKING
        with pytest.raises(CustomerLeftError):
            await one.complete()
    assert HIDDEN not in stage.rung
