"""The simulator fails as raw servers fail, and remembers what it had dialled."""

import asyncio
import base64
import contextlib
import json
import re
from typing import Final

import pytest

from aiophlo.simulator import Fault, Simulator, http11

TO: Final = "+14152225555"
BODY: Final = {"action": "warm_transfer", "to": TO, "trigger_source": "+14152223333"}
SOUND: Final = rb'HTTP/1.1 201 Created\r\n.*\r\n\r\n{"api_id": "[^"]+", "error": ""}'
RESET: Final = b"<reset>"

RAW: Final = {  # what a client reads until the end, and how often it has rung
    Fault.DROP_BEFORE_READ: (b"", 0),
    Fault.RESET_BEFORE_READ: (RESET, 0),
    Fault.STALE_408: (rb"HTTP/1.1 408 .*\r\n\r\n", 0),
    Fault.DROP_AFTER_READ: (b"", 1),
    Fault.RESET: (RESET, 1),
    Fault.CUT_STATUS_LINE: (rb"HTTP/1.1 20", 1),
    Fault.CUT_HEADERS: (rb"HTTP/1.1 201 Created\r\nContent-Type.*[^\n]", 1),
    Fault.CUT_BODY: (rb'.*\r\nContent-Length: \d+\r\n.*\r\n\r\n{"api_id[^}]*', 1),
    Fault.CUT_CHUNKED: (
        rb".*Transfer-Encoding: chunked\r\n.*\r\n\r\n[0-9a-f]+\r\n{[^}]*",
        1,
    ),
    Fault.NO_LENGTH: (rb".*application/json\r\n(?!Content-Length).*\r\n\r\n{[^}]*", 1),
    Fault.GARBAGE: (rb"\x16\x03\x01.*", 1),
    Fault.GARBAGE_HEADERS: (rb"HTTP/1.1 201 Created\r\n\x00.*", 1),
    Fault.IDLE_CLOSE: (SOUND, 1),
    Fault.IDLE_408: (SOUND + rb"HTTP/1.1 408 .*", 1),
}
SOUND_HTTP: Final = {  # status, what the rest has in it, and how often it has rung
    Fault.BAD_GZIP: (201, rb"Content-Encoding: gzip\r\n(?:.*\r\n)?\r\n{", 1),
    Fault.NOT_JSON: (201, rb"text/html.*<html>", 1),
    Fault.NOT_AN_OBJECT: (201, rb'\["accepted"\]', 1),
    Fault.EMPTY_BODY: (201, rb"Content-Length: 0", 1),
    Fault.DRIP: (201, rb'"error": ""}', 1),
    Fault.ERROR_IN_201: (201, rb'"error": "[^"]+"', 0),
    Fault.NO_CONTENT: (204, rb"\r\n\r\n", 1),
    Fault.STATUS_301: (301, rb"Location: /", 1),
    Fault.STATUS_302: (302, rb"Location: /", 1),
    Fault.STATUS_303: (303, rb"Location: /", 1),
    Fault.STATUS_307: (307, rb"Location: /", 0),
    Fault.STATUS_308: (308, rb"Location: /", 0),
    Fault.STATUS_400: (400, rb'"error": "', 0),
    Fault.STATUS_401: (401, rb'"error": "', 0),
    Fault.STATUS_403: (403, rb'"error": "', 0),
    Fault.STATUS_404: (404, rb'"error": "', 0),
    Fault.STATUS_405: (405, rb'"error": "', 0),
    Fault.STATUS_408: (408, rb'"error": "', 1),
    Fault.STATUS_409: (409, rb'"error": "', 0),
    Fault.STATUS_422: (422, rb'"error": "', 0),
    Fault.STATUS_429: (429, rb'"error": "', 0),
    Fault.STATUS_429_SECONDS: (429, rb"Retry-After: 1\r\n", 0),
    Fault.STATUS_429_DATE: (429, rb"Retry-After: \w+, .* GMT\r\n", 0),
    Fault.STATUS_500: (500, rb"text/html.*<html>", 1),
    Fault.STATUS_502: (502, rb"text/html.*<html>", 1),
    Fault.STATUS_503: (503, rb"text/html.*<html>", 1),
    Fault.STATUS_504: (504, rb"text/html.*<html>", 1),
}
STALLED: Final = {
    Fault.SILENCE: b"",
    Fault.STALL_HEADERS: b"HT",
    Fault.STALL_BODY: b"{",
}


def request(simulator: Simulator, **headers: str) -> bytes:
    """Write a warm transfer as a client does."""
    pair = f"{simulator.auth_id}:{simulator.auth_token}"
    body = json.dumps(BODY).encode()
    headers |= {
        "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
        "Content-Length": str(len(body)),
    }
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    head = f"POST /v1/phlo/p/multi_party_call/n HTTP/1.1\r\n{lines}\r\n"
    return head.encode() + body


async def connect(
    simulator: Simulator,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection that shows every byte."""
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes, or resets."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return RESET


async def exchange(simulator: Simulator) -> bytes:
    """Send one transfer that ends its connection and read all there is."""
    reader, writer = await connect(simulator)
    writer.write(request(simulator, Connection="close"))
    data = await read_to_end(reader)
    await close(writer)
    return data


async def close(writer: asyncio.StreamWriter) -> None:
    """Close our end, whatever became of theirs."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_every_fault_is_tried_here() -> None:
    """A fault that nobody has seen scripted is no fault."""
    assert {*RAW, *SOUND_HTTP, *STALLED} == set(Fault)


@pytest.mark.parametrize(("fault", "expected"), RAW.items())
async def test_broken_answer_goes_out_when_a_fault_strikes(
    simulator: Simulator, fault: Fault, expected: tuple[bytes, int]
) -> None:
    """A client tested against half a fault isn't tested."""
    pattern, dials = expected
    simulator.fault_next(fault)
    reader, writer = await connect(simulator)
    writer.write(request(simulator))  # the fault, not the client, ends the connection
    data = await read_to_end(reader)
    await close(writer)
    assert re.fullmatch(pattern, data, re.DOTALL), data
    assert simulator.ledger.dials(to=TO) == dials
    assert simulator.ledger.requests[0].fault == fault


@pytest.mark.parametrize(("fault", "expected"), RAW.items())
def test_broken_answer_is_the_same_on_uvloop(
    fault: Fault, expected: tuple[bytes, int]
) -> None:
    """Half of the services that use the simulator run on it."""

    async def scripted() -> None:
        async with Simulator(quota=None) as simulator:
            await test_broken_answer_goes_out_when_a_fault_strikes(
                simulator, fault, expected
            )

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scripted())


@pytest.mark.parametrize(("fault", "expected"), SOUND_HTTP.items())
async def test_bad_answer_keeps_the_connection_when_http_is_sound(
    fault: Fault, expected: tuple[int, bytes, int]
) -> None:
    """What the answer says is one thing, whether the next request arrives another."""
    status, pattern, dials = expected
    async with Simulator(drip_every=0.0001) as simulator:
        simulator.fault_next(fault)
        reader, writer = await connect(simulator)
        writer.write(request(simulator) + request(simulator, Connection="close"))
        data = await read_to_end(reader)
        await close(writer)
    first, second = (b"HTTP" + part for part in data.split(b"HTTP")[1:])
    assert first.startswith(f"HTTP/1.1 {status} ".encode())
    assert re.search(pattern, first, re.DOTALL), first
    assert re.fullmatch(SOUND, second, re.DOTALL), second
    assert simulator.ledger.dials(to=TO) == dials + 1
    answered = [(record.answered, record.fault) for record in simulator.ledger.requests]
    assert answered == [(status, fault), (201, None)]


@pytest.mark.parametrize(("fault", "end"), STALLED.items())
async def test_shutdown_is_prompt_when_an_answer_stalls(
    fault: Fault, end: bytes
) -> None:
    """A test of a silent API must not hang itself."""
    async with Simulator() as simulator:
        simulator.fault_next(fault)
        reader, writer = await connect(simulator)
        writer.write(request(simulator))
        await simulator.wait_for(dials=1)
        assert simulator.ledger.requests[0].answered is None
        if end:
            assert end in await reader.read(1000)
    assert await read_to_end(reader) == b""
    await close(writer)


async def test_request_is_reset_unread_when_the_connection_was_forgotten(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reused connection that is being closed loses the request."""
    monkeypatch.setattr(http11, "_IDLE_FOR", 0.2)
    simulator.fault_next("idle_close")
    reader, writer = await connect(simulator)
    writer.write(request(simulator))
    await reader.readuntil(b"}")
    writer.write(request(simulator))
    assert await read_to_end(reader) == RESET
    await close(writer)
    assert simulator.ledger.received == 1


async def test_fault_strikes_only_what_it_is_for(simulator: Simulator) -> None:
    """A scripted failure must not hit the wrong transfer."""
    simulator.fault_next(Fault.STATUS_500, to="+14152220000")
    simulator.fault_next(Fault.STATUS_502, action="hold")
    simulator.fault_next(Fault.STATUS_503, action="warm_transfer", to=TO, times=2)
    statuses = [(await exchange(simulator)).split()[1] for _ in range(3)]
    assert statuses == [b"503", b"503", b"201"]


async def test_script_is_forgotten_when_cleared(simulator: Simulator) -> None:
    """One test's script must not scripted in the next."""
    simulator.drop_next_answer(times=None)
    assert await exchange(simulator) == b""
    assert await exchange(simulator) == b""
    simulator.clear_script()
    assert (await exchange(simulator)).startswith(b"HTTP/1.1 201")


async def test_answer_is_as_scripted(simulator: Simulator) -> None:
    """Any answer that Plivo might give must be possible to try."""
    simulator.answer_next(
        402, headers={"x-reason": "credit"}, body={"error": "no credit"}, delay=0.001
    )
    data = await exchange(simulator)
    assert data.startswith(b"HTTP/1.1 402 Payment Required\r\n")
    assert b"\r\nX-Reason: credit\r\n" in data
    assert data.endswith(b'\r\n\r\n{"error": "no credit"}')
    assert simulator.ledger.dials() == 0


@pytest.mark.parametrize(
    ("status", "body", "dialled", "dials"),
    [
        (None, None, None, 1),
        (200, "plain text", None, 1),
        (200, {"error": "no"}, None, 0),
        (200, {"error": "no"}, True, 1),
        (200, None, False, 0),
        (503, b"bytes", None, 1),
        (503, None, False, 0),
        (404, None, None, 0),
        (599, None, None, 1),
    ],
)
async def test_scripted_answer_has_dialled_when_that_is_worse(
    simulator: Simulator,
    status: int | None,
    body: bytes | str | dict[str, object] | None,
    dialled: bool | None,
    dials: int,
) -> None:
    """A repeat shows in the ledger only if the first one rang."""
    simulator.answer_next(status, body=body, dialled=dialled)
    data = await exchange(simulator)
    assert data.startswith(f"HTTP/1.1 {status or 201} ".encode())
    assert simulator.ledger.dials(to=TO) == dials


async def test_fault_is_an_error_when_there_is_none_of_its_name(
    simulator: Simulator,
) -> None:
    """A misspelt fault would never scripted and the test would pass."""
    with pytest.raises(ValueError, match="drop_everything"):
        simulator.fault_next("drop_everything")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /v1/phlo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/phlo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /v1/phlo HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
        (b"x" * 70_000, 431),
    ],
)
async def test_connection_ends_when_its_bytes_are_no_request(
    simulator: Simulator, data: bytes, status: int
) -> None:
    """Whoever writes a client by hand gets an answer, not a hang."""
    reader, writer = await connect(simulator)
    writer.write(data)
    answer = await reader.read()
    await close(writer)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert simulator.ledger.received == 0


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"HTTP/1.1", "", True),
        (b"HTTP/1.1", "close", False),
        (b"HTTP/1.0", "", False),
        (b"HTTP/1.0", "keep-alive", True),
    ],
)
async def test_connection_is_kept_when_http_says_so(
    simulator: Simulator, version: bytes, connection: str, kept: bool
) -> None:
    """A client that reuses a connection must find it open."""
    data = request(simulator, **({"Connection": connection} if connection else {}))
    data = data.replace(b"HTTP/1.1", version)
    reader, writer = await connect(simulator)
    for byte in range(len(data)):
        writer.write(data[byte : byte + 1])
        await writer.drain()
    writer.write(request(simulator, Connection="close"))
    answers = await read_to_end(reader)
    await close(writer)
    assert answers.count(b"HTTP/1.1 201") in {1 + kept, kept * 2}
    assert simulator.ledger.received == 1 + kept
