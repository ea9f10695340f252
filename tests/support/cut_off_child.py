"""A process that reaches Plivo, and its database only while the link is there.

For each line it sends ten transfers, and prints what came of them, as JSON.
"""

import asyncio
import json
import sys
import time

from aiophlo import Accepted, Account, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Simulator
from tests.support.doubles import act, outcome_of


async def main(url: str) -> None:
    """Send for each line."""
    async with (
        Simulator() as simulator,
        SessionPool(
            Account(AUTH_ID, AUTH_TOKEN),
            base_url=simulator.base_url,
            coordinator=PostgresCoordinator(url, migrate=True),
        ) as pool,
    ):
        sent = 0
        while await asyncio.to_thread(sys.stdin.readline):
            began = time.monotonic()
            transfers = (act(WarmTransfer, sent + n) for n in range(10))
            outcomes = await asyncio.gather(
                *(outcome_of(pool.send(it, send_within=10.0)) for it in transfers)
            )
            sent += len(outcomes)
            said = {
                "accepted": sum(isinstance(it, Accepted) for it in outcomes),
                "seconds": time.monotonic() - began,
                "coordinated": pool.state().coordinated,
                "dials": simulator.ledger.dials() - sent,
            }
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
