"""(a) What does one transfer cost the client's processor, at 100 in flight?"""

import asyncio
import importlib
import importlib.util
from asyncio import sslproto
from collections.abc import Mapping
from typing import Any

import attrs

from benchmarks.harness import instructions
from benchmarks.harness.budgets import EXCHANGE, VERDICT
from benchmarks.harness.certificates import trust
from benchmarks.harness.lab import Lab, Measurement, say, words_for
from benchmarks.harness.load import Load
from benchmarks.harness.slices import add_alone, rounds_side_by_side

IN_FLIGHT = 100
ROUNDS = 3
_COUNTED = 400  # transfers whose instructions are counted: valgrind is slow
_AT_LEAST = 50  # of a slow client


@attrs.frozen
class Client:
    """How a client is run.

    Attributes:
        where: Its module and function.
        share: Of the transfers that a fast client is given.
        on_uvloop: On that event loop.
        in_threads: It works in some, which valgrind runs one at a time: what they
            wait for each other would be counted.
        needs: A package that may be missing.
        without_it: Why it may be.
    """

    where: str
    share: float = 1.0
    on_uvloop: bool = False
    in_threads: bool = False
    needs: str = "asyncio"
    without_it: str = ""


_ON_A_LOOP = {
    "raw asyncio protocol": Client("raw:run"),
    "hand-tuned aiohttp": Client("yardstick:run"),
    "the same, inlined": Client("yardstick:tightest"),
    "the same, waiting for ever": Client("yardstick:patient"),
    "natural aiohttp": Client("natural:run"),
    EXCHANGE: Client("layers:exchange"),
    VERDICT: Client("layers:verdict"),
    "aiophlo": Client("phlo:plain"),
    "aiophlo, observed": Client("phlo:observed"),
    "aiophlo, streamed": Client("phlo:streamed"),
    "aiophlo, with journal": Client("phlo:journalled", in_threads=True),
    "pyreqwest": Client("pyreqwest_client:run", in_threads=True, needs="pyreqwest"),
    "twilio async": Client("twilio_sdk:run"),
    "niquests": Client(
        "niquests_client:run",
        share=0.2,
        needs="niquests",
        without_it="with it comes a urllib3 that plivo-python would be measured with",
    ),
    "httpx": Client("httpx_client:run", share=0.05),
}
CLIENTS = {
    **_ON_A_LOOP,
    **{
        f"{name}, uvloop": attrs.evolve(client, on_uvloop=True)
        for name, client in _ON_A_LOOP.items()
    },
    "plivo-python, POST only": Client(
        "plivo_sdk:post_only", share=0.1, in_threads=True
    ),
    "plivo-python, documented": Client(
        "plivo_sdk:documented", share=0.04, in_threads=True
    ),
}


def measure(lab: Lab) -> Measurement:
    """Let all clients take turns against a server that answers at once."""
    transfers = 3_000 if lab.quick else 6_000
    with lab.prompt_server() as base_url:
        return in_turns(lab, transfers, alone=True, base_url=base_url)


def in_turns(
    lab: Lab, transfers: int, *, alone: bool = False, **where: str
) -> Measurement:
    """Let all clients take turns, and count their instructions.

    Args:
        lab: Where.
        transfers: Of a fast client.
        alone: Let each run alone, too, for its throughput and latency.
        where: The server, as `work` takes it.
    """
    clients, left_out = those_there_are()

    def words(client: Client, *, counted: bool = False) -> tuple[str, ...]:
        sent = (_COUNTED if counted else transfers) * client.share
        return words_for(
            "cpu",
            **where,
            where=client.where,
            on_uvloop=client.on_uvloop,
            load={
                "in_flight": IN_FLIGHT,
                "transfers": max(int(sent), _AT_LEAST),
                "skipped": 2 * IN_FLIGHT,
                "counted": counted,
            },
        )

    rows = []
    for on_uvloop in (
        False,
        True,
    ):  # so many at once would wait too long for each other
        programs = {
            name: words(client)
            for name, client in clients.items()
            if client.on_uvloop is on_uvloop
        }
        rows += rounds_side_by_side(programs, rounds=1 if lab.quick else ROUNDS)
        if alone:
            add_alone(lab, rows, programs)
    if instructions.version() is not None:
        # uvloop itself is no concern of ours, and each of these takes a while.
        counted = {
            name: client
            for name, client in clients.items()
            if not (client.on_uvloop or client.in_threads)
        }
        found = instructions.count_all(
            {name: words(client, counted=True) for name, client in counted.items()}
        )
        for row in rows:
            if row["client"] in found:
                row["instructions"] = found[row["client"]]
    return {
        "in_flight": IN_FLIGHT,
        "transfers": transfers,
        "left_out": left_out,
        "rows": rows,
    }


def those_there_are() -> tuple[dict[str, Client], dict[str, str]]:
    """Return the clients that can be run, and why others can't."""
    there, left_out = {}, {}
    for name, client in CLIENTS.items():
        if importlib.util.find_spec(client.needs) is not None:
            there[name] = client
        elif not client.on_uvloop:
            why = f"{client.needs} is not installed"
            left_out[name] = f"{why}: {client.without_it}" if client.without_it else why
            say(f"  {name} is left out: {left_out[name]}")
    return there, left_out


def work(
    *,
    where: str,
    base_url: str,
    on_uvloop: bool,
    load: Mapping[str, Any],
    authority: str | None = None,
    tls_buffer: int | None = None,
) -> Measurement:
    """Run one client, in its own process, under a load.

    Args:
        where: Its module and function.
        base_url: Where the API is.
        on_uvloop: On that event loop.
        load: What is sent.
        authority: Whose certificates to trust.
        tls_buffer: Bytes that asyncio keeps for each connection over TLS.
    """
    if authority is not None:
        trust(authority)
    if tls_buffer is not None:
        sslproto.SSLProtocol.max_size = tls_buffer
    module, _, function = where.partition(":")
    client = getattr(importlib.import_module(f"benchmarks.clients.{module}"), function)
    measured = Load(**load)
    if on_uvloop:
        import uvloop  # noqa: PLC0415 -- it would weigh on those that don't run on it

        uvloop.run(client(base_url, measured))
    else:
        asyncio.run(client(base_url, measured))
    return measured.result()
