"""(a) What does one transfer cost the client's processor, at 100 in flight?"""

import asyncio
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import attrs

from benchmarks.harness.lab import Lab, Measurement, words_for
from benchmarks.harness.load import Load
from benchmarks.harness.slices import measure_again

IN_FLIGHT = 100


@attrs.frozen
class Client:
    """How a client is run.

    Attributes:
        where: Its module and function.
        share: Of the transfers that a fast client is given.
        on_uvloop: On that event loop.
    """

    where: str
    share: float = 1.0
    on_uvloop: bool = False


CLIENTS = {
    "raw asyncio protocol": Client("raw:run"),
    "hand-tuned aiohttp": Client("yardstick:run"),
    "the same, inlined": Client("yardstick:tightest"),
    "the same, waiting for ever": Client("yardstick:patient"),
    "hand-tuned aiohttp, uvloop": Client("yardstick:run", on_uvloop=True),
    "natural aiohttp": Client("natural:run"),
    "aiophlo": Client("phlo:plain"),
    "aiophlo, observed": Client("phlo:observed"),
    "aiophlo, streamed": Client("phlo:streamed"),
    "aiophlo, with journal": Client("phlo:journalled"),
    "aiophlo, uvloop": Client("phlo:plain", on_uvloop=True),
    "twilio async": Client("twilio_sdk:run"),
    "plivo-python, POST only": Client("plivo_sdk:post_only", share=0.1),
    "httpx": Client("httpx_client:run", share=0.05),
    "plivo-python, documented": Client("plivo_sdk:documented", share=0.04),
}


def measure(lab: Lab) -> Measurement:
    """Let all clients take turns against a server that answers at once."""
    transfers = 3_000 if lab.quick else 12_000
    with lab.prompt_server() as base_url:

        def words(client: Client) -> tuple[str, ...]:
            return words_for(
                "cpu",
                where=client.where,
                base_url=base_url,
                on_uvloop=client.on_uvloop,
                load={
                    "in_flight": IN_FLIGHT,
                    "transfers": int(transfers * client.share),
                    "skipped": 2 * IN_FLIGHT,
                },
            )

        rows = lab.take_turns(
            {
                name: functools.partial(lab.run_python, *words(client))
                for name, client in CLIENTS.items()
            },
            rounds=1 if lab.quick else 5,
        )
        measure_again(
            rows,
            {name: words(one) for name, one in CLIENTS.items() if one.share == 1.0},
        )
    return {"in_flight": IN_FLIGHT, "transfers": transfers, "rows": rows}


def work(
    *, where: str, base_url: str, on_uvloop: bool, load: Mapping[str, Any]
) -> Measurement:
    """Run one client, in its own process, under a load."""
    module, _, function = where.partition(":")
    client = getattr(importlib.import_module(f"benchmarks.clients.{module}"), function)
    measured = Load(**load)
    if on_uvloop:
        import uvloop  # noqa: PLC0415 -- it would weigh on those that don't run on it

        uvloop.run(client(base_url, measured))
    else:
        asyncio.run(client(base_url, measured))
    return measured.result()
