"""A process that works on a shared list, says what it has begun, and may be killed."""

import asyncio
import os
import sys

from aiophlo import Account, JournalError, SessionPool
from aiophlo.model.actions import WarmTransfer
from aiophlo.postgres import PostgresCoordinator


def transfer(number: int) -> WarmTransfer:
    """Return a row of the list."""
    return WarmTransfer(
        phlo_id="p",
        node_id="n",
        trigger_source="+14155559999",
        to=f"+1{4_150_000_000 + number}",
        key=f"row-{number}",
    )


async def main(url: str, namespace: str, rows: int, lease: float) -> None:
    """Work on it, and say how it ended."""
    coordinator = PostgresCoordinator(url, namespace=namespace, lease=lease)
    counts: object = None
    try:
        async with (
            SessionPool(Account.from_env(quota=None)) as pool,
            coordinator.journal("nightly") as journal,
            pool.stream(
                map(transfer, range(rows)), journal=journal, concurrency=20
            ) as stream,
        ):
            await anext(stream)
            os.write(1, b"begun\n")
            async for _ in stream:
                pass
            counts = dict(stream.counts)
    except JournalError as error:
        os.write(1, f"ended: {error}\n".encode())
        return
    os.write(1, f"{counts}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
