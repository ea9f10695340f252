"""A service that hands a customer over, to be interrupted or killed in the middle.

Arguments: the simulator's base URL, its token, a journal's path, seconds to talk, and
perhaps the URL of a database that it shares, and its namespace.
Prints where it wants events, waits for a line, and prints what it is doing.
"""

import asyncio
import logging
import sys

from aiophlo import Account, EventRouter, Journal, SessionPool
from aiophlo.simulator import AUTH_ID
from tests.support.handover_stage import AGENT, CUSTOMER, FIRST, NODE, PHLO, webhook


async def main(base_url: str, token: str, path: str, talk: float, *shared: str) -> None:
    """Hand the customer over after some talk."""
    router, account = EventRouter(), Account(AUTH_ID, token, quota=None)
    coordinator = None
    if shared:
        from aiophlo.postgres import PostgresCoordinator  # noqa: PLC0415 -- an extra

        url, namespace = shared
        coordinator = PostgresCoordinator(url, namespace=namespace, lease=3.0)
    async with (
        webhook(router, token) as url,
        Journal(path) as journal,
        SessionPool(account, base_url=base_url, coordinator=coordinator) as pool,
    ):
        print(url, flush=True)  # noqa: T201 -- the parent reads it
        await asyncio.to_thread(sys.stdin.readline)
        async with pool.consult(
            pool.phlo(PHLO).multi_party_call(NODE),
            agent=AGENT,
            customer=CUSTOMER,
            to=FIRST,
            router=router,
            journal=journal,
            told_within=0.1,
        ) as consult:
            print("talking", flush=True)  # noqa: T201 -- as above
            await asyncio.sleep(talk)
            await consult.complete()
            print("completed", flush=True)  # noqa: T201 -- as above


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    base_url, token, path, talk, *shared = sys.argv[1:]
    asyncio.run(main(base_url, token, path, float(talk), *shared))
