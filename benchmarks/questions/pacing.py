"""(d) How much of a quota is used, and how often is one refused?"""

import asyncio
import concurrent.futures
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
from aiolimiter import AsyncLimiter
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from aiophlo import Account, Quota, SessionPool, WarmTransfer
from benchmarks.clients.phlo import transfer
from benchmarks.harness.figures import settled_use
from benchmarks.harness.lab import Lab, Measurement, Server, say
from benchmarks.harness.load import AGENT, AUTH_ID, AUTH_TOKEN, NODE_ID, PHLO_ID, target

LIMIT, PER = 300, 5.0
JITTERS = (0.0, 0.05, 0.2)
_AT_ONCE = 100
_POLL = 0.005  # seconds between two tries where a limiter can't be awaited
CLIENTS = ("aiophlo", "aiophlo, told the jitter", "aiolimiter", "limits")
UNPACED = "no pacing"
Gate = Callable[[], Awaitable[object]]


def measure(lab: Lab) -> Measurement:
    """Run those that wait side by side, since they idle; the floods alone, once."""
    rounds, periods = (2, 1) if lab.quick else (3, 5)
    rows = [
        row for number in range(rounds) for row in _side_by_side(lab, periods, number)
    ]
    floods = () if lab.quick else JITTERS
    rows += [_trial(lab, 1, 0, jitter, UNPACED) for jitter in floods]
    for row in rows:
        say(
            f"  {row['client']}, {row['jitter'] * 1e3:.0f} ms: "
            f"{row['use']:.1%} used, {row['refused']} refused"
        )
    return {"limit": LIMIT, "per": PER, "rows": rows}


def _side_by_side(lab: Lab, periods: int, number: int) -> list[Measurement]:
    trials = [
        functools.partial(_trial, lab, periods, number, jitter, client)
        for jitter in JITTERS
        for client in CLIENTS
    ]
    with concurrent.futures.ThreadPoolExecutor(len(trials)) as threads:
        running = []
        for trial in trials:
            running.append(threads.submit(trial))
            # Some send in bursts: together, these would delay those that don't.
            time.sleep(PER / len(trials))
        return [it.result() for it in running]


def _trial(
    lab: Lab, periods: int, number: int, jitter: float, client: str
) -> Measurement:
    quota = f"{LIMIT} {PER}"
    with lab.server(quota=quota, jitter=jitter, seed=number) as server:
        _send(lab, server, periods, jitter, client)
        counted = server.stop()
    admitted, refused = counted["admitted"], counted["refused"]
    use = settled_use(
        admitted,
        first=min([*admitted, *refused]),
        limit=LIMIT,
        per=PER,
        periods=periods,
    )
    return {
        "client": client,
        "round": number,
        "jitter": jitter,
        "use": use,
        "admitted": len(admitted),
        "refused": len(refused),
    }


def _send(lab: Lab, server: Server, periods: int, jitter: float, client: str) -> None:
    lab.work(
        "pacing",
        base_url=server.base_url,
        client=client,
        jitter=jitter,
        seconds=PER * (periods + 1) + 1.0,
    )


def work(*, base_url: str, client: str, jitter: float, seconds: float) -> Measurement:
    """Send as fast as one client's pacing allows."""
    gates: dict[str, Callable[[], Gate]] = {
        "aiolimiter": _aiolimiter,
        "limits": _limits,
        UNPACED: _none,
    }
    if client in gates:
        asyncio.run(_send_through(gates[client](), base_url, seconds))
    else:
        told = jitter if client != CLIENTS[0] else None
        asyncio.run(_send_by_aiophlo(base_url, seconds, told))
    return {}


async def _send_by_aiophlo(base_url: str, seconds: float, told: float | None) -> None:
    quota = Quota(LIMIT, per=PER)
    if told is not None:
        quota = Quota(LIMIT, per=PER, jitter=told + 0.01)
    account = Account(AUTH_ID, AUTH_TOKEN, quota=quota)
    transfers: Iterator[WarmTransfer] = map(transfer, _until(seconds))
    async with (
        SessionPool(account, base_url=base_url) as pool,
        pool.stream(transfers, concurrency=_AT_ONCE) as outcomes,
    ):
        async for _ in outcomes:
            pass


def _aiolimiter() -> Gate:
    return AsyncLimiter(LIMIT, PER).acquire


def _limits() -> Gate:
    limiter = MovingWindowRateLimiter(MemoryStorage())
    item = RateLimitItemPerSecond(LIMIT, int(PER))

    async def wait() -> None:
        while not await limiter.hit(item, AUTH_ID):  # noqa: ASYNC110 -- it can't be awaited
            await asyncio.sleep(_POLL)

    return wait


def _none() -> Gate:
    async def go() -> None:
        pass

    return go


async def _send_through(gate: Gate, base_url: str, seconds: float) -> None:
    """Send whenever the gate lets one through; a refusal is not tried again."""
    url = f"{base_url}/phlo/{PHLO_ID}/multi_party_call/{NODE_ID}"
    free = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

        async def send(number: int) -> None:
            try:
                async with session.post(url, json=_body(number)) as response:
                    await response.read()
            finally:
                free.release()

        for number in _until(seconds):
            await gate()
            await free.acquire()
            group.create_task(send(number))


def _body(number: int) -> dict[str, Any]:
    return {
        "action": "warm_transfer",
        "to": target(number),
        "role": "agent",
        "trigger_source": AGENT,
    }


def _until(seconds: float) -> Iterator[int]:
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield number
        number += 1
