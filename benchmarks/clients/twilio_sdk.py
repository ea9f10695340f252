"""twilio-python's asyncio client, made to send the same fields, as a form."""

import json

from twilio.http.async_http_client import (  # type: ignore[import-untyped]
    AsyncTwilioHttpClient,
)
from twilio.rest import Client  # type: ignore[import-untyped]

from benchmarks.harness.load import AGENT, AUTH_ID, AUTH_TOKEN, NODE_ID, Load, target

_CREATED = 201


async def run(base_url: str, load: Load) -> None:
    """Send with `client.request_async`."""
    async with AsyncTwilioHttpClient() as http:
        client = Client(AUTH_ID, AUTH_TOKEN, http_client=http)

        async def send(phlo_id: str, number: int) -> None:
            response = await client.request_async(
                "POST",
                f"{base_url}/phlo/{phlo_id}/multi_party_call/{NODE_ID}",
                data={
                    "action": "warm_transfer",
                    "to": target(number),
                    "role": "agent",
                    "trigger_source": AGENT,
                },
            )
            # Its own resources parse the answer so: a request alone doesn't.
            if response.status_code != _CREATED or json.loads(response.text)["error"]:
                raise RuntimeError(response.status_code)

        await load.by_workers(send)
