"""A canary token and canary numbers, through every fault: seen nowhere."""

import asyncio
import logging
import re
import traceback
from typing import Any, Final

import pytest

from aiophlo import (
    Account,
    Action,
    Hold,
    NotSentError,
    ObservedEvent,
    RunPhlo,
    SessionPool,
    VerdictError,
    WarmTransfer,
)
from aiophlo.simulator import Fault, Simulator
from tests.support.doubles import AGENT, NODE_ID, PHLO_ID, pool_of

TOKEN: Final = "canary-Q7dZ1nVx-token"  # noqa: S105 -- made up
ACCOUNT: Final = Account("MACANARY000000000001", TOKEN, quota=None)
NUMBER: Final = "+19998887766"
USER: Final = "canary.person"
SIP: Final = f"sip:{USER}@phone.plivo.com"
SECRETS: Final = re.compile(
    "|".join(
        [
            re.escape(TOKEN),
            re.escape(ACCOUNT.authorization.removeprefix("Basic ")),
            r"\D{0,3}".join("9998887766"),
            re.escape(USER),
        ]
    )
)
ACTIONS: Final[list[Action]] = [
    WarmTransfer(phlo_id=PHLO_ID, node_id=NODE_ID, to=NUMBER, trigger_source=AGENT),
    WarmTransfer(phlo_id=PHLO_ID, node_id=NODE_ID, to=SIP, trigger_source=NUMBER),
    Hold(phlo_id=PHLO_ID, node_id=NODE_ID, member=NUMBER),
    Hold(phlo_id=PHLO_ID, node_id=NODE_ID, member=SIP),
    RunPhlo(phlo_id=PHLO_ID, parameters={"to": NUMBER, "name": USER}),
]
QUOTES: Final = [
    f"no such member {NUMBER}",
    "cannot dial 1 (999) 888-7766",
    f"POST /v1/phlo/p/multi_party_call/n/members/{NUMBER.replace('+', '%2B')}",
    f"endpoint {SIP} is offline",
    {"to": NUMBER, "reason": "busy"},
]


class Witness:
    """Collects all that anybody might print."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.options: dict[str, Any] = {"account": ACCOUNT}

    def __call__(self, event: ObservedEvent) -> None:
        """Show an event, and quote it in an error that ends up in the log."""
        self.shown += [repr(event), str(event)]
        raise RuntimeError(f"observer failed on {event}")

    async def send(self, pool: SessionPool, action: Action) -> None:
        """Send, and show whatever comes of it."""
        self.shown += [repr(action), str(action)]
        try:
            self.shown.append(repr(await pool.send(action, **self.options)))
        except VerdictError as error:
            self.shown += [str(error), repr(error), repr(error.outcome)]
            self.shown += traceback.format_exception(error)
        self.shown += [repr(pool), repr(pool.state()), repr(ACCOUNT)]

    def look_at(self, records: list[logging.LogRecord]) -> None:
        """Show log records as text, and every field they have."""
        for record in records:
            self.shown += [record.getMessage(), repr(vars(record))]
            if record.exc_info:
                self.shown += traceback.format_exception(*record.exc_info)


def assert_hidden(witness: Witness, caplog: pytest.LogCaptureFixture) -> None:
    """No secret is in anything that was shown or logged."""
    witness.look_at(caplog.records)
    assert [text for text in witness.shown if SECRETS.search(text)] == []


async def test_no_fault_brings_a_secret_to_light(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Logs are read by many, kept for years, and pasted into tickets."""
    caplog.set_level(logging.DEBUG)
    witness = Witness()

    async def strike(fault: Fault) -> None:
        async with Simulator(quota=None) as simulator:
            simulator.add_account(ACCOUNT.auth_id, TOKEN)
            simulator.fault_next(fault, times=len(ACTIONS))
            async with pool_of(
                simulator,
                ACCOUNT,
                observers=[witness],
                answer_within=1.0,
                connect=0.5,
            ) as pool:
                await asyncio.gather(*(witness.send(pool, it) for it in ACTIONS))

    await asyncio.gather(*map(strike, Fault))
    assert len(witness.shown) > len(Fault) * len(ACTIONS)
    assert "in_doubt" in caplog.text
    assert_hidden(witness, caplog)


@pytest.mark.parametrize("quote", QUOTES, ids=range(len(QUOTES)))
@pytest.mark.parametrize("status", [201, 400, 404, 429, 503])
async def test_what_plivo_quotes_is_masked(
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    status: int,
    quote: str | dict[str, str],
) -> None:
    """Plivo's own words may repeat the number that was dialled."""
    caplog.set_level(logging.DEBUG)
    simulator.add_account(ACCOUNT.auth_id, TOKEN)
    simulator.answer_next(status, body={"error": quote}, times=len(ACTIONS))
    witness = Witness()
    async with pool_of(simulator, ACCOUNT, observers=[witness]) as pool:
        await asyncio.gather(*(witness.send(pool, it) for it in ACTIONS))
    assert_hidden(witness, caplog)


async def test_unreachable_server_brings_no_secret_to_light(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Errors of aiohttp name the address of what could not be reached."""
    caplog.set_level(logging.DEBUG)
    simulator, witness = Simulator(), Witness()
    async with simulator:
        pool = pool_of(
            simulator,
            ACCOUNT,
            observers=[witness],
            proxy=f"http://{USER}:{TOKEN}@{simulator.url.removeprefix('http://')}",
            allow_plaintext=True,
        )
    witness.options["send_within"] = 0.5  # time for some repeats
    async with pool:
        await asyncio.gather(*(witness.send(pool, it) for it in ACTIONS))
        with pytest.raises(NotSentError, match="unreachable"):
            await pool.send(ACTIONS[0], send_within=0.5)
    with pytest.raises(NotSentError, match="closed") as caught:
        await pool.send(ACTIONS[0])
    witness.shown.append(str(caught.value))
    assert_hidden(witness, caplog)
