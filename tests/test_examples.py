"""Programs around a pool, in `tests/examples`, each run against the simulator."""

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from aiophlo import Journal, SessionPool
from aiophlo.simulator import AUTH_TOKEN, Callback, Habit, Simulator
from aiophlo.webhooks import sign
from tests.examples.aiohttp_service import application
from tests.examples.chat_command import TransferCommand
from tests.examples.voice_tool import HUMANS, transfer_to_human
from tests.support.doubles import account_of
from tests.support.handover_stage import (
    AGENT,
    CUSTOMER,
    FIRST,
    LEFT,
    NODE,
    PHLO,
    SECOND,
    TALKING,
    Stage,
    set_stage,
)


@pytest.fixture(autouse=True)
def _events_are_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare these tests the seconds for which a real call's events may be late."""
    prompt = functools.partialmethod(SessionPool.consult, told_within=0.1)
    monkeypatch.setattr(SessionPool, "consult", prompt)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a call whose agent wants to hand the customer over."""
    async with set_stage() as stage:
        yield stage


@pytest.mark.parametrize("answered", [True, False])
async def test_service_hands_a_call_over(
    simulator: Simulator, tmp_path: Path, answered: bool
) -> None:
    """Whoever starts from the example starts from something that works."""
    if not answered:
        simulator.answer_next(400, action="warm_transfer")  # sooner than 20 seconds
    pool = SessionPool(account_of(simulator), base_url=simulator.base_url)
    app = application(pool, Journal(tmp_path / "journal"), simulator.auth_token)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        simulator.post_events(Callback(url=f"{url}/phlo/events"))
        call = simulator.place_call(PHLO, NODE, agent=AGENT, customer=CUSTOMER)
        await simulator.wait_for(lambda _: len(simulator.posts) == 2)
        asked = {"agent": AGENT, "customer": CUSTOMER, "to": [FIRST]}
        where = {"phlo_id": PHLO, "node_id": NODE}
        async with (
            ClientSession() as session,
            session.post(f"{url}/transfers", json=asked | where) as answer,
        ):
            said = await answer.json()
    finally:
        await runner.cleanup()
    assert said == ({"partner": FIRST} if answered else {"tried": 1})
    assert call[CUSTOMER].state is TALKING
    assert call[AGENT].state is (LEFT if answered else TALKING)


async def test_service_takes_an_event_once_that_is_sent_twice(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A recorded one could say that a partner is there who has left."""
    caplog.set_level("INFO", "aiophlo")
    pool = SessionPool(account_of(simulator), base_url=simulator.base_url)
    app = application(pool, Journal(tmp_path / "journal"), simulator.auth_token)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/phlo/events"
        fields = {"Event": "ConferenceEnter", "To": FIRST, "ConferenceUUID": "c"}
        nonce = "12345678901234567890"
        signature = sign("POST", url, fields, nonce=nonce, auth_token=AUTH_TOKEN)
        headers = {
            "X-Plivo-Signature-V3": signature,
            "X-Plivo-Signature-V3-Nonce": nonce,
        }
        statuses = []
        async with ClientSession(headers=headers) as session:
            for _ in range(2):
                async with session.post(url, data=fields) as answer:
                    statuses.append(answer.status)
    finally:
        await runner.cleanup()
    assert statuses == [200, 200]
    assert caplog.text.count("is not fed twice") == 1


async def test_chat_command_hands_a_call_over(stage: Stage) -> None:
    """The same for whoever starts from the bot."""
    command = TransferCommand(stage.pool, stage.node, stage.router)
    assert (
        await command(AGENT, "hello")
        == "Write /transfer CUSTOMER to PARTNER [PARTNER …]"
    )
    assert "the '+' is missing" in await command(AGENT, "/transfer 4152224444 to 5")
    said = await command(AGENT, f"/transfer {CUSTOMER} to {FIRST} {SECOND}")
    assert said == "…55 has the customer."
    assert stage.states()[:3] == (LEFT, TALKING, TALKING)


async def test_chat_command_says_who_was_tried(stage: Stage) -> None:
    """The agent reads it while the customer waits for an answer."""
    stage.simulator.answer_next(400, action="warm_transfer")
    command = TransferCommand(stage.pool, stage.node, stage.router)
    said = await command(AGENT, f"/transfer {CUSTOMER} to {FIRST}")
    assert said == (
        "nobody took the call: …55 (refused); the customer is with the agent"
    )


async def test_voice_agent_hands_over_to_a_human(stage: Stage) -> None:
    """A voicemail greeting says anything but yes."""
    stage.simulator.set_habit(Habit("machine"), address=HUMANS[0])
    said = iter(["Please leave a message after the tone.", "Yes, go ahead."])

    async def ask_partner(question: str) -> str:
        assert question
        await asyncio.sleep(0)
        return next(said)

    result = await transfer_to_human(
        stage.pool,
        stage.node,
        stage.router,
        agent=AGENT,
        caller=CUSTOMER,
        ask_partner=ask_partner,
    )
    assert result == {"result": "transferred"}
    assert stage.call[CUSTOMER].state is TALKING
    assert stage.reached == {HUMANS[1]}


async def test_second_human_is_rung_when_the_first_says_nothing(stage: Stage) -> None:
    """Silence is no reason to give the caller up."""
    stage.simulator.set_habit(Habit("machine"), address=HUMANS[0])
    said = iter(["", "Yes."])

    async def ask_partner(question: str) -> str:
        assert question
        answer = next(said)
        if not answer:
            raise TimeoutError  # as the tool's own patience does
        return answer

    result = await transfer_to_human(
        stage.pool,
        stage.node,
        stage.router,
        agent=AGENT,
        caller=CUSTOMER,
        ask_partner=ask_partner,
    )
    assert result == {"result": "transferred"}
    assert stage.reached == {HUMANS[1]}


async def test_voice_agent_goes_on_when_nobody_takes_it(stage: Stage) -> None:
    """The caller is back with it, and must not meet silence."""

    async def ask_partner(question: str) -> str:
        return f"No. {question}?"

    result = await transfer_to_human(
        stage.pool,
        stage.node,
        stage.router,
        agent=AGENT,
        caller=CUSTOMER,
        ask_partner=ask_partner,
    )
    assert result["result"] == "failed"
    assert stage.customer_is_with_agent
