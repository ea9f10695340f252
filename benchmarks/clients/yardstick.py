"""The yardstick under load, and the same request without any structure."""

import json
from collections.abc import Awaitable

import aiohttp
from yarl import URL

from benchmarks.clients.hand_tuned import HandTunedClient
from benchmarks.harness.load import (
    AGENT,
    ANSWER_WITHIN,
    AUTH_ID,
    AUTH_TOKEN,
    CONNECT,
    NODE_ID,
    Load,
    target,
)

_CREATED = 201


async def run(
    base_url: str, load: Load, *, answer_within: float | None = ANSWER_WITHIN
) -> None:
    """Send with the leanest honest aiohttp client."""
    async with HandTunedClient(
        base_url, AUTH_ID, AUTH_TOKEN, connect=CONNECT, answer_within=answer_within
    ) as client:

        def send(phlo_id: str, number: int) -> Awaitable[object]:
            return client.warm_transfer(phlo_id, NODE_ID, target(number), AGENT)

        await load.by_workers(send)


async def patient(base_url: str, load: Load) -> None:
    """Send with the same, but wait for an answer for ever."""
    await run(base_url, load, answer_within=None)


async def tightest(base_url: str, load: Load) -> None:
    """Send the same request, written as tightly as it goes."""
    headers = {
        "Authorization": aiohttp.encode_basic_auth(AUTH_ID, AUTH_TOKEN),
        "Content-Type": "application/json",
        "User-Agent": "hand-tuned",
    }
    encode = json.JSONEncoder(separators=(",", ":")).encode
    decode = json.JSONDecoder().decode
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(
            connect=CONNECT, sock_read=ANSWER_WITHIN, total=CONNECT + ANSWER_WITHIN
        ),
    ) as session:
        request = session._request  # noqa: SLF001 -- that is how tight it goes

        async def send(phlo_id: str, number: int) -> None:
            body = encode(
                {
                    "action": "warm_transfer",
                    "to": target(number),
                    "role": "agent",
                    "trigger_source": AGENT,
                }
            ).encode()
            response = await request(
                "POST",
                URL(
                    f"{base_url}/phlo/{phlo_id}/multi_party_call/{NODE_ID}",
                    encoded=True,
                ),
                data=aiohttp.BytesPayload(body, content_type="application/json"),
                allow_redirects=False,
            )
            # All of a short answer is there at once, which the server sees to.
            answer = decode((await response.content.readany()).decode())
            if response.status != _CREATED or answer["error"]:
                raise RuntimeError("not accepted")

        await load.by_workers(send)
