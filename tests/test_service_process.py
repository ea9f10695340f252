"""The service of the documentation, as it is deployed: gunicorn, three workers."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from aiophlo.simulator import Habit, Simulator
from tests.support.handover_stage import (
    AGENT,
    CUSTOMER,
    FIRST,
    LEFT,
    SECOND,
    TALKING,
)
from tests.support.postgres import Postgres
from tests.support.service import WORKERS, Service, numbers, place_calls, service

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]


async def test_whichever_worker_is_asked_hands_over_until_all_have_ended(
    simulator: Simulator, tmp_path: Path, postgres: Postgres
) -> None:
    """With three workers, two of three partners who answered were cut off."""
    many = 9
    agents, partners = numbers("222", many), numbers("333", many)
    customers = numbers("444", many)
    async with service(simulator, tmp_path, postgres) as running:
        calls = await place_calls(simulator, agents, [*customers])
        answers = await asyncio.gather(
            *(
                running.ask(
                    "handovers",
                    {"agent": agent, "customer": customer, "partners": [partner]},
                )
                for agent, customer, partner in zip(
                    agents, customers, partners, strict=True
                )
            )
        )
        assert answers == [(200, {"partner": partner}) for partner in partners]
        for call, agent, customer, partner in zip(
            calls, agents, customers, partners, strict=True
        ):
            assert call[customer].state is TALKING
            assert call[partner].state is TALKING
            assert call[agent].state is LEFT
        rung = {"agent": numbers("555", 1)[0], "partner": numbers("666", 1)[0]}
        status, told = await running.ask("transfers", rung)
        assert (status, set(told)) == (200, {"api_id"})
        assert not simulator.ledger.rung_twice()
        simulator.set_habit(Habit("answers", after=1.5), address=FIRST)
        (call,) = await place_calls(simulator, [AGENT], [CUSTOMER])
        asked = {"agent": AGENT, "customer": CUSTOMER, "partners": [FIRST]}
        dials = simulator.ledger.dials()
        asking = asyncio.create_task(running.ask("handovers", asked))
        await simulator.wait_for(dials=dials + 1)
        running.process.send_signal(signal.SIGTERM)  # whoever is rung may answer yet
        assert await asking == (200, {"partner": FIRST})
        assert call[CUSTOMER].state is TALKING
        assert call[FIRST].state is TALKING
        async with asyncio.timeout(60):
            assert await running.process.wait() == 0
    assert {post.status for post in simulator.ledger.posts} == {200}


async def test_what_goes_wrong_is_told_apart(
    simulator: Simulator, tmp_path: Path, postgres: Postgres
) -> None:
    """A caller must know whether to ask again, and whether a customer is alone."""
    simulator.set_habit(Habit("busy"), address=FIRST)
    async with service(simulator, tmp_path, postgres) as running:
        (call,) = await place_calls(simulator, [AGENT], [None])
        asked = {"agent": AGENT, "conference_uuid": call.conference_uuid}
        status, told = await running.ask(
            "handovers", {**asked, "partners": [FIRST], "ring_for": 0.5}
        )
        assert (status, told["error"]) == (424, "NobodyAnsweredError")
        assert told["tried"] in (["no_answer"], ["busy"])
        status, told = await running.ask("handovers", {**asked, "partners": ["5"]})
        assert (status, told["error"]) == (422, "InvalidAddressError")
        simulator.drop_next_answer()
        ring = {"agent": AGENT, "partner": SECOND}
        status, told = await running.ask("transfers", ring)
        assert (status, told["error"]) == (504, "InDoubtError")
        status, told = await second_click(running, simulator)
        assert (status, told["error"]) == (409, "EngagedError")


async def second_click(
    running: Service, simulator: Simulator
) -> tuple[int, dict[str, Any]]:
    """Ask twice for a handover, whichever worker gets it."""
    agent, customer, partner = (numbers(one, 1)[0] for one in ("777", "888", "999"))
    simulator.set_habit(Habit("ignores", after=1000.0), address=partner)
    await place_calls(simulator, [agent], [customer])
    asked = {"agent": agent, "customer": customer, "partners": [partner]}
    dials = simulator.ledger.dials()
    asking = asyncio.create_task(running.ask("handovers", asked))
    await simulator.wait_for(dials=dials + 1)
    try:
        return await running.ask("handovers", asked)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_customer_is_brought_back_after_a_worker_was_killed(
    simulator: Simulator, tmp_path: Path, postgres: Postgres
) -> None:
    """The other workers must leave nobody on hold."""
    simulator.set_habit(Habit("ignores", after=1000.0))
    async with service(simulator, tmp_path, postgres) as running:
        (call,) = await place_calls(simulator, [AGENT], [CUSTOMER])
        asked = {"agent": AGENT, "customer": CUSTOMER, "partners": [FIRST]}
        asking = asyncio.create_task(running.ask("handovers", asked))
        await simulator.wait_for(dials=1)
        assert call[CUSTOMER].state != TALKING
        os.kill(await running.worker_with_a_handover(), signal.SIGKILL)
        await asyncio.gather(asking, return_exceptions=True)
        await simulator.wait_for(lambda _: call[CUSTOMER].state is TALKING, within=60)
        assert call[AGENT].state is TALKING
        assert simulator.ledger.dials() == 1
        await running.started(WORKERS + 1)
        simulator.set_habit(Habit("answers"))
        again = {**asked, "partners": [SECOND]}
        assert await running.ask("handovers", again) == (200, {"partner": SECOND})
        still_open = "SELECT id FROM aiophlo.handovers WHERE ended IS NULL"
        assert await postgres.rows(still_open) == []
