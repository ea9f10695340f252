"""niquests, requests' asyncio successor, with as many connections as are in flight."""

import niquests

from benchmarks.harness.load import AGENT, AUTH_ID, AUTH_TOKEN, NODE_ID, Load, target


async def run(base_url: str, load: Load) -> None:
    """Send with `niquests.AsyncSession`.

    Measured: with its ten connections, it opens one for most requests.
    """
    async with niquests.AsyncSession(
        pool_connections=1, pool_maxsize=load.in_flight
    ) as session:
        session.auth = (AUTH_ID, AUTH_TOKEN)

        async def send(phlo_id: str, number: int) -> None:
            response = await session.post(
                f"{base_url}/phlo/{phlo_id}/multi_party_call/{NODE_ID}",
                json={
                    "action": "warm_transfer",
                    "to": target(number),
                    "role": "agent",
                    "trigger_source": AGENT,
                },
            )
            response.raise_for_status()
            if response.json()["error"]:
                raise RuntimeError("not accepted")

        await load.by_workers(send)
