"""The lower layers of aiophlo alone, to tell what each of the upper ones adds."""

import time

import aiohttp

from aiophlo import Accepted
from aiophlo.protocol.codec import decode, encode
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.tracked_request import TrackedRequest
from benchmarks.clients.phlo import transfer
from benchmarks.harness.load import (
    ANSWER_WITHIN,
    AUTH_ID,
    AUTH_TOKEN,
    CONNECT,
    Load,
)

_CREATED = 201


async def exchange(base_url: str, load: Load) -> None:
    """Send the same request again and again, and don't read what its answer says."""
    request = encode(transfer(0), auth_id=AUTH_ID)
    async with _session() as session:
        client = _client(session, base_url)

        async def send(_: str, __: int) -> None:
            answer = await client.exchange(request, TrackedRequest(), within=CONNECT)
            if answer.status != _CREATED:
                raise RuntimeError(answer)

        await load.by_workers(send)


async def verdict(base_url: str, load: Load) -> None:
    """Make an action each time, its JSON, and a verdict of its answer."""
    async with _session() as session:
        client = _client(session, base_url)

        async def send(_: str, number: int) -> None:
            action, tracked = transfer(number), TrackedRequest()
            request = encode(action, auth_id=AUTH_ID)
            answer = await client.exchange(request, tracked, within=CONNECT)
            if not isinstance(decode(action, answer, now=time.time), Accepted):
                raise TypeError(answer)

        await load.by_workers(send)


def _session() -> aiohttp.ClientSession:
    headers = {"Authorization": aiohttp.encode_basic_auth(AUTH_ID, AUTH_TOKEN)}
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)
    return aiohttp.ClientSession(connector=connector, headers=headers)


def _client(session: aiohttp.ClientSession, base_url: str) -> HttpClient:
    return HttpClient(
        session,
        base_url,
        {},
        lent=False,
        connect=CONNECT,
        answer_within=ANSWER_WITHIN,
    )
