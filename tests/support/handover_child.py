"""A service that hands a customer over, to be interrupted or killed in the middle.

Arguments: the simulator's base URL, its token, a journal's path, seconds to talk.
Prints where it wants events, waits for a line, and prints what it is doing.
"""

import asyncio
import logging
import sys

from aiophlo import Account, EventRouter, Journal, SessionPool
from aiophlo.simulator import AUTH_ID
from tests.support.handover_stage import AGENT, CUSTOMER, FIRST, NODE, PHLO, webhook


async def main(base_url: str, token: str, path: str, talk: float) -> None:
    """Hand the customer over after some talk."""
    router = EventRouter()
    async with (
        webhook(router, token) as url,
        Journal(path) as journal,
        SessionPool(Account(AUTH_ID, token, quota=None), base_url=base_url) as pool,
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
    base_url, token, path, talk = sys.argv[1:]
    asyncio.run(main(base_url, token, path, float(talk)))
