"""A process that sends as much as its pool lets it, and then one more that all send.

Once it is coordinated it says "ready", and waits for a line; at its end it prints what
came of its transfers, as JSON.
"""

import asyncio
import json
import sys
import time

from aiophlo import Accepted, Account, Quota, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator
from tests.support.doubles import act, outcome_of


async def main(url: str, number: int, transfers: int, limit: int) -> None:
    """Send."""
    # A busy machine makes requests late, also after they have left.
    account = Account.from_env(quota=Quota(limit, per=1.0, jitter=0.5))
    async with SessionPool(account, coordinator=PostgresCoordinator(url)) as pool:
        assert pool.state().coordinated
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(
                outcome_of(
                    pool.send(
                        act(WarmTransfer, 1000 * number + n),
                        send_within=30.0,
                    )
                )
                for n in range(transfers)
            )
        )
        seconds = time.monotonic() - began
        last = await outcome_of(pool.send(act(WarmTransfer, 999)))
    accepted = sum(isinstance(outcome, Accepted) for outcome in outcomes)
    joined = isinstance(last, Accepted) and last.joined
    said = {"accepted": accepted, "seconds": seconds, "joined": joined}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
