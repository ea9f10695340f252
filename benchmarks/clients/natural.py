"""The aiohttp client that most people would write first."""

import aiohttp

from benchmarks.harness.load import (
    AGENT,
    AUTH_ID,
    AUTH_TOKEN,
    CONNECT,
    NODE_ID,
    Load,
    target,
)


async def run(base_url: str, load: Load) -> None:
    """Send with `json=` and `response.json()`, all but one patience at its default."""
    headers = {"Authorization": aiohttp.encode_basic_auth(AUTH_ID, AUTH_TOKEN)}
    # As by default, but for the time to connect: it is stopped again and again.
    patience = aiohttp.ClientTimeout(total=300.0, sock_connect=CONNECT)
    async with aiohttp.ClientSession(headers=headers, timeout=patience) as session:

        async def send(phlo_id: str, number: int) -> None:
            transfer = {
                "action": "warm_transfer",
                "to": target(number),
                "role": "agent",
                "trigger_source": AGENT,
            }
            async with session.post(
                f"{base_url}/phlo/{phlo_id}/multi_party_call/{NODE_ID}", json=transfer
            ) as response:
                response.raise_for_status()
                answer = await response.json()
            if answer["error"]:
                raise RuntimeError(answer["error"])

        await load.by_workers(send)
