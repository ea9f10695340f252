"""Which notices wake all pools, and which aren't sent."""

import json
from typing import Any

import psycopg
import pytest

from tests.support.postgres import Postgres

AGENT, OTHER = 5, 6


def dial(pool: int, number: int) -> dict[str, Any]:
    """Return what a pool asks for a dial of the agent's."""
    dial = {"do": "dial", "key": number, "id": number, "pool": pool, "agent": AGENT}
    return {
        **dial,
        "called": number,
        "phone": number,
        "action": "WarmTransfer",
        "once": True,
    } | MEMORY


def note(pool: int, party: int, **details: float) -> dict[str, Any]:
    """Return what a pool asks for an action on a party."""
    note = {"do": "note", "party": party, "action": "Hold", "ends_dials": False}
    return {**note, "pool": pool, **details}


MEMORY = {"memory": 3.0}
KNOWN = {"known_for": 60.0}


@pytest.mark.parametrize(
    ("before", "is_told"),
    [
        pytest.param([], False, id="nobody acts on the agent"),
        pytest.param([note(2, AGENT, **KNOWN)], True, id="it may be repeated"),
        pytest.param([note(2, AGENT)], False, id="it is never repeated"),
        pytest.param([note(2, AGENT, known_for=-1.0)], False, id="it has ended"),
        pytest.param([note(1, AGENT, **KNOWN)], False, id="it is the pool's own"),
        pytest.param([note(2, OTHER, **KNOWN)], False, id="it is on somebody else"),
        pytest.param(
            [{"do": "know", "party": AGENT, "pool": 2, **KNOWN}],
            True,
            id="it was begun while the database was away",
        ),
    ],
)
async def test_dial_is_told_only_to_who_may_repeat_an_action_on_its_agent(
    postgres: Postgres, namespace: str, before: list[Any], *, is_told: bool
) -> None:
    """Each notice wakes all pools: with 18, a thousand times a second."""
    told = []
    async with await psycopg.AsyncConnection.connect(
        postgres.url, autocommit=True
    ) as connection:
        connection.add_notify_handler(
            lambda notice: told.extend(json.loads(notice.payload))
        )
        await connection.execute(f'LISTEN "{namespace}"'.encode())
        for operation in [*before, dial(1, 1)]:
            await connection.execute(
                f"SELECT {namespace}.work(%s::jsonb, '{namespace}')".encode(),
                (json.dumps([operation]),),
            )
        await connection.execute("SELECT 1")
    dials = [notice for notice in told if notice[2] == "WarmTransfer"]
    assert dials == [["begun", AGENT, "WarmTransfer", False, 1]] * is_told
