"""The yardstick under load, and the same request without any structure."""

import json

import aiohttp
from yarl import URL

from benchmarks.hand_tuned import HandTunedClient
from benchmarks.load import (
    AGENT,
    ANSWER_WITHIN,
    AUTH_ID,
    AUTH_TOKEN,
    CONNECT,
    NODE_ID,
    Load,
    target,
)


async def run(base_url: str, load: Load) -> None:
    """Send with the leanest honest aiohttp client."""
    async with HandTunedClient(
        base_url, AUTH_ID, AUTH_TOKEN, connect=CONNECT, answer_within=ANSWER_WITHIN
    ) as client:

        async def send(phlo_id: str, number: int) -> None:
            await client.warm_transfer(phlo_id, NODE_ID, target(number), AGENT)

        await load.by_workers(send)


async def tightest(base_url: str, load: Load) -> None:
    """Send the same request, written as tightly as it goes."""
    timeout = aiohttp.ClientTimeout(
        connect=CONNECT, sock_read=ANSWER_WITHIN, total=CONNECT + ANSWER_WITHIN
    )
    headers = {
        "Authorization": aiohttp.encode_basic_auth(AUTH_ID, AUTH_TOKEN),
        "Content-Type": "application/json",
        "User-Agent": "hand-tuned",
    }
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
    ) as session:
        request = session._request  # noqa: SLF001 -- that is how tight it goes

        async def send(phlo_id: str, number: int) -> None:
            response = await request(
                "POST",
                URL(
                    f"{base_url}/phlo/{phlo_id}/multi_party_call/{NODE_ID}",
                    encoded=True,
                ),
                data=json.dumps(
                    {
                        "action": "warm_transfer",
                        "to": target(number),
                        "role": "agent",
                        "trigger_source": AGENT,
                    }
                ).encode(),
                allow_redirects=False,
                timeout=timeout,
            )
            if json.loads(await response.read())["error"]:
                raise RuntimeError("not accepted")

        await load.by_workers(send)
