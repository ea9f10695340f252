"""A process whose pool sends one transfer, says so, and waits to be killed."""

import asyncio
import os
import sys

from aiophlo import Account, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator
from tests.support.doubles import act


async def main(url: str, namespace: str) -> None:
    """Send; the answer is held, so that it never comes."""
    coordinator = PostgresCoordinator(url, namespace=namespace)
    async with SessionPool(
        Account.from_env(quota=None), coordinator=coordinator
    ) as pool:
        sending = asyncio.create_task(pool.send(act(WarmTransfer, 1)))
        await asyncio.sleep(0)
        os.write(1, b"sending\n")
        await sending


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
