"""The simulator's server: the PHLO API on a port of this machine."""

import asyncio
import ssl as tls
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

from aiophlo.model.accounts import Account, Quota
from aiophlo.simulator.controls import SimulatorControls
from aiophlo.simulator.http11 import Connection
from aiophlo.simulator.http_control import HttpControl
from aiophlo.simulator.request_handler import Timing

_BACKLOG: Final = 16_384


class Simulator(SimulatorControls):
    """A PHLO API that rings nobody and remembers everything.

    Behaves as Plivo documents it: Basic authentication, one strict moving-window quota
    per main account, the documented answers; and it fails in every way in which a
    server can, when told to. All methods may be called from any thread.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        quota: Requests and seconds: what each main account may make; None for no limit.
        latency: Seconds from a request to its answer.
        retry_after: Whether a 429 says in how many seconds to come again.
        drip_every: Seconds between two bytes of a dripping answer.
        auth_id: Id of the first account; made up by default.
        auth_token: Its secret; made up by default.
        seed: Seed of all chance and of the ids that are handed out.
        strict: Whether only placed calls, their nodes and their members exist; else
            every PHLO, node and address does.
        returns_customer: Whether a transfer whose target is busy, declines, doesn't
            answer or hangs up ends by itself and gives the customer back to the agent;
            else the customer stays on hold until it is aborted.
        faults: Chance of each fault by name, as a mapping or as text such as
            `drop_after_read=0.01,status_503=0.02`; `all` names each one.
        ssl: Serve TLS with this context.
        keep_requests: Keep a record of every request in the ledger; without, counts.
        clock: Gives the seconds by which quota and ledger go.

    Attributes:
        ledger: What was asked and what was dialled.
        auth_id: Id of the first account.
        auth_token: Its secret.
        base_url: Where the API is, without a slash at its end: `http://…/v1`. The list
            of calls is there, too.
        call_list: Every leg, listed or not.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        quota: tuple[int, float] | None = (300, 5.0),
        latency: float = 0.0,
        retry_after: bool = False,
        drip_every: float = 0.05,
        auth_id: str | None = None,
        auth_token: str | None = None,
        seed: int = 0,
        strict: bool = False,
        returns_customer: bool = True,
        faults: str | Mapping[str, float] | None = None,
        ssl: tls.SSLContext | None = None,
        keep_requests: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http_control = HttpControl(self)
        super().__init__(
            http_control=self._http_control,
            timing=Timing(latency, drip_every, clock),
            quota=quota,
            retry_after=retry_after,
            auth_id=auth_id,
            auth_token=auth_token,
            seed=seed,
            strict=strict,
            returns_customer=returns_customer,
            faults=faults,
            keep_requests=keep_requests,
        )
        self._host = host
        self._port = port
        self._ssl = ssl
        self._quota = quota
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        """Say where it listens and what the ledger counts."""
        where = self.base_url if self._server else "not listening"
        return f"<Simulator {where} {self.ledger!r}>"

    async def __aenter__(self) -> Self:
        """Start to listen."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, whatever is still unanswered."""
        await self.stop()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address or port can't be had.
        """
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: Connection(self._handler),
            self._host,
            self._port,
            ssl=self._ssl,
            backlog=_BACKLOG,
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and cut every connection; the ledger stays."""
        if self._server is None:
            return
        await self._poster.close()
        await self._http_control.close()
        self._server.close()
        for connection in list(self._handler.connections):
            connection.transport.abort()
        await self._server.wait_closed()
        self._server = None

    @property
    def account(self) -> Account:
        """The account that it knows from the start, as a pool takes it."""
        quota = self._quota and Quota(self._quota[0], per=self._quota[1])
        return Account(self.auth_id, self.auth_token, quota=quota)

    @property
    def base_url(self) -> str:
        """Where the API is, as a client wants it."""
        scheme = "https" if self._ssl else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}/v1"

    @property
    def url(self) -> str:
        """Where the simulator is, without the API's path."""
        return self.base_url.removesuffix("/v1")
