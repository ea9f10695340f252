"""(e) How many phones ring twice when the same things go wrong?"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import tenacity

from aiophlo import Account, SessionPool, WarmTransfer
from aiophlo.simulator import AUTH_ID, AUTH_TOKEN, Simulator
from benchmarks.clients.phlo import transfer
from benchmarks.harness.lab import Lab, Measurement, say
from benchmarks.harness.load import AGENT, NODE_ID, PHLO_ID, target

FAULTS = {
    "drop_before_read": 0.005,
    "drop_after_read": 0.005,
    "reset": 0.005,
    "silence": 0.001,
    "cut_body": 0.002,
    "not_json": 0.002,
    "status_429": 0.001,
    "status_500": 0.005,
    "status_502": 0.005,
    "status_503": 0.005,
    "status_504": 0.005,
}
SEED = 1
_AT_ONCE = 100
_ANSWER_WITHIN = 1.0  # seconds
_TRIES = 4
_FIRST_SERVER_ERROR = 500
_TOLD = ("accepted", "rejected", "not_sent", "in_doubt", "failed")
Note = Callable[[int, str], None]
Run = Callable[[str, int, Note], Awaitable[None]]
Send = Callable[[aiohttp.ClientSession, str, int], Awaitable[object]]


def measure(lab: Lab) -> Measurement:
    """Run each against a simulator of its own, with the same seed."""
    transfers = 5_000 if lab.quick else 50_000
    rows = []
    for client in CLIENTS:
        row = lab.work("duplicates", client=client, transfers=transfers)
        rows.append({"client": client, **row})
        say(f"  {client}: {row['rung_twice']} rung twice, {row['told']}")
    return {"transfers": transfers, "faults": FAULTS, "seed": SEED, "rows": rows}


def work(*, client: str, transfers: int) -> Measurement:
    """Send transfers to distinct numbers, and hold what was told to the ledger."""
    return asyncio.run(_work(CLIENTS[client], transfers))


async def _work(run: Run, transfers: int) -> Measurement:
    told: dict[int, str] = {}
    async with Simulator(
        quota=None, faults=FAULTS, seed=SEED, keep_requests=False
    ) as simulator:
        await run(simulator.base_url, transfers, told.__setitem__)
    ledger, verdicts = simulator.ledger, Counter(told.values())
    # Only now: a phone may ring after its caller was told that none would.
    wrong = (_is_wrong(it, rang=ledger.dials(target(n))) for n, it in told.items())
    return {
        "told": {verdict: verdicts[verdict] for verdict in _TOLD},
        "requests": ledger.received,
        "rung": ledger.dialled_total,
        "rung_twice": len(ledger.rung_twice()),
        "told_wrong": sum(wrong),
    }


def _is_wrong(verdict: str, *, rang: int) -> bool:
    """Say whether somebody was told the opposite of what happened."""
    match verdict:
        case "accepted":
            return not rang
        case "in_doubt":
            return False
    return bool(rang)


async def _aiophlo(base_url: str, transfers: int, note: Note) -> None:
    account = Account(AUTH_ID, AUTH_TOKEN, quota=None)
    actions: Iterator[WarmTransfer] = map(transfer, range(transfers))
    async with (
        SessionPool(account, base_url=base_url, answer_within=_ANSWER_WITHIN) as pool,
        pool.stream(actions, concurrency=_AT_ONCE) as outcomes,
    ):
        async for number, outcome in outcomes.numbered():
            note(number, outcome.verdict)


async def _tenacity(base_url: str, transfers: int, note: Note) -> None:
    again = tenacity.retry(
        stop=tenacity.stop_after_attempt(_TRIES),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
        retry=tenacity.retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
        reraise=True,
    )
    await _by_workers(again(_post), base_url, transfers, note)


async def _on_server_errors(base_url: str, transfers: int, note: Note) -> None:
    """Send again on 5xx alone, as plivo-python does with its voice calls."""

    async def send(session: aiohttp.ClientSession, base_url: str, number: int) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                await _post(session, base_url, number)
            except aiohttp.ClientResponseError as error:
                if error.status < _FIRST_SERVER_ERROR or not tries_left:
                    raise
            else:
                return

    await _by_workers(send, base_url, transfers, note)


async def _post(session: aiohttp.ClientSession, base_url: str, number: int) -> None:
    body = {
        "action": "warm_transfer",
        "to": target(number),
        "role": "agent",
        "trigger_source": AGENT,
    }
    async with session.post(
        f"{base_url}/phlo/{PHLO_ID}/multi_party_call/{NODE_ID}", json=body
    ) as response:
        response.raise_for_status()
        await response.json()


async def _by_workers(send: Send, base_url: str, transfers: int, note: Note) -> None:
    numbers = iter(range(transfers))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            try:
                await send(session, base_url, number)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                note(number, "failed")
            else:
                note(number, "accepted")

    async with (
        aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth(AUTH_ID, AUTH_TOKEN)},
            timeout=aiohttp.ClientTimeout(sock_read=_ANSWER_WITHIN),
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(_AT_ONCE):
            group.create_task(work(session))


CLIENTS: dict[str, Run] = {
    "aiophlo": _aiophlo,
    "aiohttp and tenacity": _tenacity,
    "re-sends on 5xx": _on_server_errors,
}
