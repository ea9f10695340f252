"""httpx, with its limits as they are: 100 connections, 20 of them kept when idle."""

import httpx

from benchmarks.harness.load import AGENT, AUTH_ID, AUTH_TOKEN, NODE_ID, Load, target


async def run(base_url: str, load: Load) -> None:
    """Send with `httpx.AsyncClient`.

    Measured: to keep all 100 connections costs it six times as much CPU.
    """
    async with httpx.AsyncClient(
        auth=(AUTH_ID, AUTH_TOKEN),
        timeout=httpx.Timeout(60.0),
    ) as client:

        async def send(phlo_id: str, number: int) -> None:
            response = await client.post(
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
