"""The yardstick: the leanest honest aiohttp client for one warm transfer.

It does what the request needs and nothing else: no pacing, no verdicts, no
retries. JSON is encoded and parsed, the URL is built per call, and the same
three timeouts are set. What aiohttp would look up, wrap or build anew for every
request is settled before.
"""

import base64
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

_CREATED = 201
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class HandTunedClient:
    """Posts warm transfers over one aiohttp session.

    Args:
        base_url: Where the API is.
        auth_id: The account's id.
        auth_token: Its token.
        connect: Seconds to get a connection.
        answer_within: Seconds of silence until it gives up; None waits for ever.
    """

    def __init__(
        self,
        base_url: str,
        auth_id: str,
        auth_token: str,
        *,
        connect: float = 3.0,
        answer_within: float | None = 10.0,
    ) -> None:
        total = None if answer_within is None else connect + answer_within
        pair = base64.b64encode(f"{auth_id}:{auth_token}".encode()).decode()
        self._base_url = base_url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Authorization": f"Basic {pair}",
                "Content-Type": "application/json",
                "User-Agent": "hand-tuned",
            },
            timeout=aiohttp.ClientTimeout(
                connect=connect, sock_read=answer_within, total=total
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def warm_transfer(
        self, phlo_id: str, node_id: str, to: str, trigger_source: str
    ) -> Mapping[str, Any]:
        """Post one transfer and return the answer's JSON.

        Raises:
            RuntimeError: The answer was no acceptance.
        """
        body = _encode(
            {
                "action": "warm_transfer",
                "to": to,
                "role": "agent",
                "trigger_source": trigger_source,
            }
        ).encode()
        # Read to its end, an answer gives its connection back by itself.
        response = await self._session.post(
            URL(
                f"{self._base_url}/phlo/{phlo_id}/multi_party_call/{node_id}",
                encoded=True,
            ),
            data=aiohttp.BytesPayload(body, content_type="application/json"),
            allow_redirects=False,
        )
        content = await response.content.readany()
        while not response.content.at_eof():
            content += await response.content.readany()
        if response.status != _CREATED:
            raise RuntimeError(f"status {response.status}")
        answer: dict[str, Any] = _decode(content.decode())
        if answer["error"]:
            raise RuntimeError("not accepted")
        return answer
