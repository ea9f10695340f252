"""A task of somebody's queue: sends one transfer, and is killed."""

import asyncio
import sys

from aiophlo import Account, SessionPool
from aiophlo.postgres import PostgresCoordinator
from tests.support.queues import transfer


async def main(url: str, namespace: str) -> None:
    """Send; the answer is held, so that it never comes."""
    coordinator = PostgresCoordinator(url, namespace=namespace, lease=3.0)
    async with SessionPool(
        Account.from_env(quota=None), coordinator=coordinator
    ) as pool:
        await coordinator.send_once(pool, transfer(1), key="task-1")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
