"""What mocks, recorders and tracers of a user's own see of a pool's requests."""

from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
from aioresponses import aioresponses

from aiophlo import Accepted, SessionPool, WarmTransfer
from aiophlo.simulator import Simulator
from tests.support.doubles import account_of

URL: Final = "/phlo/p/multi_party_call/n"
TRANSFER: Final = WarmTransfer(
    phlo_id="p", node_id="n", trigger_source="+14155550100", to="+14155550101"
)
GENUINE: Final = aiohttp.ClientSession._request  # noqa: SLF001 -- what recorders replace


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Give a server."""
    async with Simulator(quota=None) as simulator:
        yield simulator


async def transfer(pool: SessionPool) -> Accepted:
    """Ring once more, whatever was rung before."""
    return await pool.send(TRANSFER, on_duplicate="send")


async def test_mock_is_obeyed_while_it_is_there(
    simulator: Simulator, mocked_answers: aioresponses
) -> None:
    """A user's test would ring real phones."""
    mocked_answers.stop()
    async with SessionPool(account_of(simulator), base_url=simulator.base_url) as pool:
        await transfer(pool)
        assert simulator.ledger.dials(to=TRANSFER.to) == 1
        mocked_answers.start()
        mocked_answers.post(
            f"{simulator.base_url}{URL}", status=201, payload={"api_id": "mocked"}
        )
        assert (await transfer(pool)).api_id == "mocked"
        mocked_answers.stop()
        assert simulator.ledger.dials(to=TRANSFER.to) == 1
        assert (await transfer(pool)).api_id != "mocked"
        assert simulator.ledger.dials(to=TRANSFER.to) == 2
        mocked_answers.start()


async def test_recorder_sees_what_is_sent_while_it_is_there(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that lacks requests can't be played back."""
    seen = []

    async def record(
        self: aiohttp.ClientSession,
        method: str,
        url: Any,  # noqa: ANN401 -- aiohttp's own
        **options: Any,  # noqa: ANN401 -- aiohttp's own
    ) -> aiohttp.ClientResponse:
        seen.append((method, url.path, options["data"]._value))  # noqa: SLF001 -- as they do
        return await GENUINE(self, method, url, **options)

    async with SessionPool(account_of(simulator), base_url=simulator.base_url) as pool:
        await transfer(pool)
        with monkeypatch.context() as patch:
            patch.setattr(aiohttp.ClientSession, "_request", record)
            await transfer(pool)
        await transfer(pool)
    [(method, path, body)] = seen
    assert (method, path.endswith(URL)) == ("POST", True)
    assert TRANSFER.to.encode() in body
    assert simulator.ledger.dials(to=TRANSFER.to) == 3


async def test_tracer_sees_what_is_sent_when_it_gave_each_session_its_traces(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked for spans of all requests would look for these in vain."""
    spans = []
    trace, make = aiohttp.TraceConfig(), aiohttp.ClientSession.__init__

    async def begin(
        session: aiohttp.ClientSession,
        context: object,
        params: Any,  # noqa: ANN401 -- aiohttp's own
    ) -> None:
        del session, context
        params.headers["traceparent"] = "00-0-0-00"
        spans.append(str(params.url))

    trace.on_request_start.append(begin)

    def make_traced(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- aiohttp's own
        make(self, *args, **{**options, "trace_configs": [trace]})

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", make_traced)
    async with SessionPool(account_of(simulator), base_url=simulator.base_url) as pool:
        await transfer(pool)
    assert spans == [f"{simulator.base_url}{URL}"]


async def test_lent_session_sees_what_is_sent_over_it(simulator: Simulator) -> None:
    """Its owner has it do what a bare request would not."""
    async with (
        aiohttp.ClientSession(headers={"X-Owner": "me"}) as session,
        SessionPool(
            account_of(simulator), base_url=simulator.base_url, session=session
        ) as pool,
    ):
        sent = []
        send = aiohttp.ClientRequest.send

        async def count(
            self: aiohttp.ClientRequest,
            connection: Any,  # noqa: ANN401 -- aiohttp's own
        ) -> aiohttp.ClientResponse:
            sent.append(self.headers["X-Owner"])
            return await send(self, connection)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aiohttp.ClientRequest, "send", count)
            await transfer(pool)
    assert sent == ["me"]
