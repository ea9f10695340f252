"""The senders of a pool's accounts, and the limits that these share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiophlo.instrumentation import Observers
from aiophlo.logs import logger
from aiophlo.model.accounts import Account, Rate
from aiophlo.model.actions import Lane
from aiophlo.protocol.http_client import HttpClient
from aiophlo.sending.connection_limit import ConnectionLimit
from aiophlo.sending.delivery import DeliveryContext
from aiophlo.sending.dial_log import DialLog
from aiophlo.sending.rate_limit_queue import RateLimitQueue
from aiophlo.sending.rate_limiter import RateLimiter
from aiophlo.sending.rate_meter import RateMeter
from aiophlo.sending.retry import RetryPolicy
from aiophlo.sending.sender import ActionsUnderWay, Sender
from aiophlo.sending.superseding import Claims

if TYPE_CHECKING:
    from aiophlo.coordination import Coordinator


class AccountSenders:
    """One sender per account; subaccounts share the quota of their main account.

    Args:
        connections_per_account: Exchanges that each may have under way.
        policy: When an action may be sent again.
        observers: Who is told.
        random: Returns a number from 0 to below 1.
        trailing_slash: End the path of every POST in `/`.

    Attributes:
        by_auth_id: The senders, once they are open.
        dials: The latest dials of all of them.
    """

    def __init__(
        self,
        *,
        connections_per_account: int,
        policy: RetryPolicy,
        observers: Observers,
        random: Callable[[], float],
        trailing_slash: bool,
    ) -> None:
        self.by_auth_id: dict[str, Sender] = {}
        self._connections = connections_per_account
        self._shared_limit: ConnectionLimit | None = None  # of all accounts together
        self._policy = policy
        self._observers = observers
        self._random = random
        self._trailing_slash = trailing_slash
        self._coordinator: Coordinator | None = None
        self._slots: dict[str, tuple[RateLimitQueue, RateLimitQueue | None]] = {}
        self._claims = Claims()
        self._under_way = ActionsUnderWay()
        self.dials = DialLog()

    def open(
        self,
        accounts: Iterable[Account],
        http_client_of: Callable[[Account], HttpClient],
        *,
        most_connections: int,
        check_loop: Callable[[], None],
        coordinator: Coordinator | None = None,
    ) -> None:
        """Make the senders, on the running event loop.

        Args:
            accounts: Whose.
            http_client_of: Returns the client of an account.
            most_connections: How many there can be at once, of all accounts
                together; 0 for any number.
            check_loop: Raises where it isn't the pool's own event loop that runs.
            coordinator: What is shared with other pools, open.
        """
        accounts = tuple(accounts)
        self._coordinator = coordinator
        if most_connections:
            # A tenth is left to the urgent lane, which needs no permit.
            most = max(most_connections * 9 // 10, 1)
            self._shared_limit = ConnectionLimit(most) if len(accounts) > 1 else None
            self._connections = min(self._connections, most)
        for account in accounts:
            context = self._context(account, http_client_of(account))
            self.by_auth_id[account.auth_id] = sender = Sender(
                context, under_way=self._under_way, check_loop=check_loop
            )
            if coordinator is not None:
                sender.share(coordinator.actions(account, sender.heard))

    def _context(self, account: Account, http_client: HttpClient) -> DeliveryContext:
        owner = account.quota_owner
        if owner not in self._slots:
            self._slots[owner] = self._slots_of(account)
        slots, call_rate = self._slots[owner]
        return DeliveryContext(
            account,
            http_client,
            slots,
            call_rate,
            ConnectionLimit(self._connections, shared=self._shared_limit),
            policy=self._policy,
            claims=self._claims,
            observers=self._observers,
            random=self._random,
            trailing_slash=self._trailing_slash,
            coordinator=self._coordinator,
            dials=self.dials,
        )

    def _slots_of(
        self, account: Account
    ) -> tuple[RateLimitQueue, RateLimitQueue | None]:
        owner = account.quota_owner
        slots = self._queue(Rate.of_quota(account.quota, owner))
        if account.calls_per_second is None:
            return slots, None
        calls = Rate(f"{owner} calls", 1.0 / account.calls_per_second)
        return slots, self._queue(calls)

    def _queue(self, rate: Rate) -> RateLimitQueue:
        loop = asyncio.get_running_loop()
        if self._coordinator is None:
            return RateLimitQueue(RateLimiter(RateMeter.of(rate)), loop)
        queue: RateLimitQueue | None = None

        def refresh(late: bool) -> None:  # noqa: FBT001 -- a callback
            if queue is not None:
                queue.refresh(late)

        meter = self._coordinator.meter(rate, refresh)
        queue = RateLimitQueue(RateLimiter(meter), loop)
        return queue

    def sender_over(self, account: Account, http_client: HttpClient) -> Sender:
        """Return a sender for another API, within the limits of the account's own."""
        own = self.by_auth_id[account.auth_id]
        return Sender(
            own.context.over(http_client),
            under_way=own.under_way,
            check_loop=own.check_loop,
        )

    def refuse(self, lane: Lane) -> None:
        """Give out no more slots in `lane` or behind it."""
        for pair in self._slots.values():
            for slots in filter(None, pair):
                slots.close(lane)

    async def wait_until_idle(self, *, within: float) -> None:
        """Wait until every action has its outcome; after `within` seconds, log it."""
        try:
            async with asyncio.timeout(within):
                await self._under_way.none_left()
        except TimeoutError:
            logger.warning("closed with actions under way: %d", self._under_way.number)
