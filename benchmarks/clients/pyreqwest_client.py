"""pyreqwest: Rust's reqwest, with Python's asyncio waiting for its threads."""

import datetime as dt
import os
from pathlib import Path

from pyreqwest.client import ClientBuilder

from benchmarks.harness.load import (
    AGENT,
    ANSWER_WITHIN,
    AUTH_ID,
    AUTH_TOKEN,
    NODE_ID,
    Load,
    target,
)


async def run(base_url: str, load: Load) -> None:
    """Send with `pyreqwest.client.Client`."""
    builder = (
        ClientBuilder()
        .error_for_status(enable=True)
        .timeout(dt.timedelta(seconds=ANSWER_WITHIN))
    )
    if (authority := _authority()) is not None:
        builder = builder.add_root_certificate_pem(authority)
    async with builder.build() as client:

        async def send(phlo_id: str, number: int) -> None:
            url = f"{base_url}/phlo/{phlo_id}/multi_party_call/{NODE_ID}"
            request = client.post(url).basic_auth(AUTH_ID, AUTH_TOKEN)
            transfer = {
                "action": "warm_transfer",
                "to": target(number),
                "role": "agent",
                "trigger_source": AGENT,
            }
            response = await request.body_json(transfer).build().send()
            answer = await response.json()
            if answer["error"]:
                raise RuntimeError("not accepted")

        await load.by_workers(send)


def _authority() -> bytes | None:
    """Return the certificate to trust, for which it doesn't look there itself."""
    path = os.environ.get("SSL_CERT_FILE")
    return Path(path).read_bytes() if path else None
