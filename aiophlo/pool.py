"""SessionPool: the face of the library.

What only batches, journals and handovers need is imported when there is one:
most never begin any, and it would double what importing this library costs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import warnings
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import aiohttp

from aiophlo._version import __version__
from aiophlo.accounts import Account
from aiophlo.actions import Action, Lane, Role
from aiophlo.checks import (
    check_accounts,
    check_base_url,
    check_callable,
    check_count,
    check_observers,
    check_on_duplicate,
    check_optional,
    check_proxy,
    check_seconds,
    check_send_within,
    check_session,
    check_type,
    check_user_agent,
)
from aiophlo.errors import InvalidInputError
from aiophlo.nodes import AnyRole, MultiPartyCall, Phlo
from aiophlo.observing import Observer, Observers
from aiophlo.outcomes import Accepted, NotSent, Outcome, Reason, accepted_or_raise
from aiophlo.pacing import Pacer
from aiophlo.permits import Permits
from aiophlo.retrying import RetryPolicy
from aiophlo.rivals import Rivals
from aiophlo.sending import AccountState, Sender, UnderWay
from aiophlo.slots import Slots
from aiophlo.transport import Transport

if TYPE_CHECKING:
    from aiophlo.batch import BatchReport, Stream
    from aiophlo.handover.care import Care
    from aiophlo.handover.consult import Accept, Consult
    from aiophlo.handover.plan import ConsultOptions
    from aiophlo.handover.recovery import Recovered
    from aiophlo.journal import Journal
    from aiophlo.routing import EventRouter

BASE_URL = "https://phlorunner.plivo.com/v1"
USER_AGENT = f"aiophlo/{__version__}"

logger = logging.getLogger("aiophlo")


class SessionPool:
    """Sends actions for one account or many, over one pool of connections.

    Use it as `async with SessionPool(account) as pool:`, or call `open` and
    `close`. One pool serves one event loop.

    Args:
        accounts: One or more.
        base_url: Where the API is.
        connect: Seconds to get a connection.
        answer_within: Seconds that a whole answer may take, once its request has
            left, before the action is in doubt. At least 1.
        connections_per_account: Exchanges that one account may have under
            way, so that its trouble doesn't starve the others.
        keepalive: Seconds that an idle connection is kept. Longer than the
            server keeps it, and a transfer now and then ends in doubt.
        retry: How often and how soon an action may be sent again.
        trailing_slash: End the path of every POST in `/`, as plivo-python does.
        user_agent: Sent with every request.
        proxy: URL of an HTTP proxy.
        ssl_context: What to trust, instead of the system's certificates.
        connector: Yours to close; replaces the pool's own.
        session: Yours to close; replaces the pool's own, connector and all.
        observers: Plain callables, told of every attempt and every outcome.
        random: Returns a number from 0 to below 1; spreads the waits between
            attempts.

    Raises:
        InvalidInputError: An argument can't be right; nothing was sent.

    Source:
        Plivo docs, "PHLO API": the base URL. That POSTs take no trailing
        slash: the documentation, plivo-node and plivo-go; plivo-python adds one.
    """

    def __init__(
        self,
        *accounts: Account,
        base_url: str = BASE_URL,
        connect: float = 3.0,
        answer_within: float = 10.0,
        connections_per_account: int = 1_000,
        keepalive: float = 4.0,
        retry: RetryPolicy = RetryPolicy(),
        trailing_slash: bool = False,
        user_agent: str = USER_AGENT,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connector: aiohttp.BaseConnector | None = None,
        session: aiohttp.ClientSession | None = None,
        observers: Sequence[Observer] = (),
        random: Callable[[], float] = random.random,
    ) -> None:
        self._opened = False
        self._closed = False
        self._accounts = check_accounts(accounts)
        self._base_url = check_base_url(base_url, example=BASE_URL)
        self._connect = check_seconds(connect, "connect")
        self._answer_within = check_seconds(answer_within, "answer_within", least=1.0)
        self._connections = check_count(
            connections_per_account, "connections_per_account"
        )
        self._keepalive = check_seconds(keepalive, "keepalive")
        self._retry = check_type(retry, RetryPolicy, "retry")
        self._trailing_slash = check_type(trailing_slash, bool, "trailing_slash")
        self._user_agent = check_user_agent(user_agent)
        self._proxy = check_proxy(proxy)
        self._ssl = check_optional(ssl_context, ssl.SSLContext, "ssl_context")
        self._observers = Observers(check_observers(observers))
        self._random = check_callable(random, "random")
        self._borrowed_connector = check_optional(
            connector, aiohttp.BaseConnector, "connector"
        )
        self._borrowed_session = check_session(session, connector)
        self._connector: aiohttp.BaseConnector | None = None
        self._sessions: list[aiohttp.ClientSession] = []
        self._senders: dict[str, Sender] = {}
        self._slots: dict[str, tuple[Slots, Slots | None]] = {}
        self._rivals = Rivals()
        self._under_way = UnderWay()
        self._care: Care | None = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if getattr(self, "_opened", False) and not self._closed:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._opened else "not open"
        return f"<SessionPool of {len(self._accounts)} accounts, {state}>"

    async def open(self) -> Self:
        """Make the pool ready to send on the running event loop.

        Raises:
            InvalidInputError: It was open before, or is closed.
        """
        if self._opened or self._closed:
            raise InvalidInputError(f"pool: expected a new one, got {self!r}")
        self._opened = True
        self._connector = self._borrowed_connector or aiohttp.TCPConnector(
            limit=0, keepalive_timeout=self._keepalive
        )
        for account in self._accounts.values():
            self._senders[account.auth_id] = self._sender(account)
        return self

    async def close(self) -> None:
        """Refuse new actions, let those under way end, then close what is ours.

        Open handovers are ended first: each customer is brought back to the
        agent. Waits up to `connect` and twice `answer_within` more, longer than
        an exchange may take; what is still under way then is logged, and ends
        in doubt.
        """
        if self._closed:
            return
        self._closed = True
        self._close_slots(Lane.AWAITED)
        try:
            if self._care is not None:
                await self._care.close(2 * self._longest_exchange())
            self._close_slots(Lane.URGENT)
            await self._until_idle()
        finally:
            for session in self._sessions:
                await session.close()
            if self._connector is not None and self._borrowed_connector is None:
                await self._connector.close()

    async def send(
        self,
        action: Action,
        *,
        account: Account | str | None = None,
        send_within: float | None = 10.0,
        on_duplicate: Literal["join", "send"] = "join",
    ) -> Accepted:
        """Send one action and wait for its verdict.

        Args:
            action: What is asked.
            account: Whose, or its `auth_id`; may be left out with one account.
            send_within: Seconds after which sending is worthless; what is not
                out by then is not sent. None waits for ever.
            on_duplicate: What to do with a `WarmTransfer`, `ColdTransfer` or
                `AddUser` that equals one under way, or one accepted or left in
                doubt less than 3 seconds ago: `"join"` returns the outcome of
                that one, marked `joined`, however long it is given; `"send"`
                rings again.

        Returns:
            The outcome, if Plivo said yes.

        Raises:
            RejectedError: Plivo said no.
            NotSentError: Nothing rings: sending again is safe.
            InDoubtError: A phone may be ringing.
            InvalidInputError: An argument can't be right; nothing was sent.
        """
        whose = self._account(account)
        check_type(action, Action, "action")
        check_send_within(send_within)
        check_on_duplicate(on_duplicate)
        if self._closed or not self._opened:
            refused = _not_open(action, self)
            self._observers.action_ended(whose, refused)
            return accepted_or_raise(refused)
        outcome = await self._senders[whose.auth_id].send(
            action,
            send_within=send_within,
            once=on_duplicate == "join",
        )
        return accepted_or_raise(outcome)

    def stream(
        self,
        actions: Iterable[Action] | AsyncIterable[Action],
        *,
        concurrency: int = 200,
        send_within: float | None = None,
        journal: Journal | None = None,
        include_in_doubt: bool = False,
        account: Account | str | Callable[[Action], Account | str] | None = None,
    ) -> Stream:
        """Send many actions; yields each one's outcome as it comes.

        ::

            async with pool.stream(transfers) as outcomes:
                async for outcome in outcomes:
                    ...

        It stops by itself after 10 actions in a row without a clear answer, or
        3 refusals in a row for the credentials (401, 403) or one PHLO or node
        (404), if a GET then confirms it: the rest is not sent.

        Args:
            actions: Any iterable or async iterable, of any length.
            concurrency: Actions in hand at most: taken, and their outcome not
                yet read.
            send_within: Seconds from taking an action after which sending it
                is worthless; None waits for ever.
            journal: An open journal, which remembers what was sent through
                kills, so that nothing is sent twice.
            include_in_doubt: Send again what an earlier run left in doubt, at
                the risk that a phone rings twice.
            account: Whose actions, or its `auth_id`, or what says so for each
                action; may be left out with one account.

        Raises:
            InvalidInputError: An argument can't be right; nothing was sent.
        """
        from aiophlo.batch import Stream, StreamOptions  # noqa: PLC0415 -- see above

        if not callable(account):
            self._account(account)
        stream = Stream(
            actions,
            lambda action: self._sender_for(
                account(action) if callable(account) else account
            ),
            StreamOptions(
                concurrency=check_count(concurrency, "concurrency"),
                send_within=check_send_within(send_within),
                journal=journal,
                include_in_doubt=include_in_doubt,
            ),
        )
        if not self._opened:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        if include_in_doubt and journal is None:
            message = "include_in_doubt: expected a journal that knows what is in doubt"
            raise InvalidInputError(message, field="include_in_doubt")
        return stream

    async def send_all(
        self,
        actions: Iterable[Action],
        *,
        concurrency: int = 200,
        send_within: float | None = None,
        account: Account | str | Callable[[Action], Account | str] | None = None,
    ) -> BatchReport:
        """Send a short list of actions, and wait for all of their outcomes.

        Args:
            actions: Few enough to keep all of their outcomes.
            concurrency: As for `stream`.
            send_within: As for `stream`.
            account: As for `stream`.

        Returns:
            The outcomes, in the order of the actions.

        Raises:
            InvalidInputError: An argument can't be right; nothing was sent.
        """
        from aiophlo.batch import BatchReport  # noqa: PLC0415 -- see above

        async with self.stream(
            actions, concurrency=concurrency, send_within=send_within, account=account
        ) as stream:
            found = {number: outcome async for number, outcome in stream.numbered()}
        return BatchReport(tuple(found[number] for number in range(len(found))))

    def state(self, account: Account | str | None = None) -> AccountState:
        """Return what an account is busy with, for dashboards and back-pressure.

        Args:
            account: Which, or its `auth_id`; may be left out with one account.

        Raises:
            InvalidInputError: The account is not known, or the pool is not open.
        """
        return self._sender_for(account).state()

    def phlo(self, phlo_id: str, *, account: Account | str | None = None) -> Phlo:
        """Return the handle of a PHLO; no I/O.

        Args:
            phlo_id: Which.
            account: Whose, or its `auth_id`; may be left out with one account.

        Raises:
            InvalidInputError: `phlo_id` is no id, or the account is not known.
        """
        self._account(account)
        return Phlo(self, phlo_id, account)

    def consult(
        self,
        node: MultiPartyCall,
        *,
        agent: str,
        customer: str,
        to: str | Sequence[str],
        ring_for: float = 20.0,
        router: EventRouter | None = None,
        journal: Journal | None = None,
        role: AnyRole = Role.AGENT,
        conference_uuid: str | None = None,
        send_within: float = 10.0,
        told_within: float = 2.0,
        bring_back_within: float = 30.0,
    ) -> Consult:
        """Return a warm transfer from first ring to last hang-up; nothing is sent yet.

        ::

            async with pool.consult(node, agent=…, to=…, router=…, …) as consult:
                ...  # agent and partner talk, the customer hears music
                await consult.complete()  # the customer talks to the partner

        Entering the block rings one after the other until somebody answers; the
        next only once the one before is known to be out. Leaving it without
        `complete()`, by return, exception, timeout or cancellation, brings the
        customer back, and waits for that. Only one handover may be open about
        anybody, be it as agent or as the one who is rung.

        Args:
            node: The multi-party call that agent and customer are in.
            agent: Address of the agent, who starts the transfer.
            customer: Address of the customer.
            to: Whom to reach: an address, or several in order.
            ring_for: Seconds for which each may ring.
            router: What is fed the events of the call. None if there are none:
                then answers can't be seen, and it must be done by hand, with
                `start()`, `complete()` and `abort()`.
            journal: An open journal, which remembers the handover through a kill
                for `recover_handovers`; it holds the agent's address in the clear
                for as long as the handover is open.
            role: Role of the one who is reached.
            conference_uuid: The conversation, where you know it: the router
                finds it by itself if it was fed the call's events from the start.
            send_within: Seconds after which a transfer or hang-up is worthless.
            told_within: Seconds by which events may be behind the call: so long
                is waited for what may still be told.
            bring_back_within: Seconds for which an abort is tried again.

        Raises:
            InvalidInputError: An argument can't be right, or the pool isn't open.
        """
        from aiophlo.handover.consult import Consult  # noqa: PLC0415 -- see above
        from aiophlo.handover.plan import Plan  # noqa: PLC0415

        plan = Plan(
            node=node,
            agent=agent,
            customer=customer,
            targets=to,
            ring_for=ring_for,
            router=router,
            journal=journal,
            role=role,
            conference_uuid=conference_uuid,
            send_within=send_within,
            told_within=told_within,
            bring_back_within=bring_back_within,
        )
        return Consult(plan, self._sender_for(node.phlo.account), self._caring())

    async def hand_over(
        self,
        node: MultiPartyCall,
        *,
        agent: str,
        customer: str,
        to: str | Sequence[str],
        accept: Accept,
        router: EventRouter,
        **options: Unpack[ConsultOptions],
    ) -> str:
        """Hand a customer over to the first one who takes the call.

        `consult` without a block, for bots: `accept` is asked about everybody who
        answers, and where it says no, or they leave, the next one is rung.

        Args:
            node: As for `consult`.
            agent: As for `consult`.
            customer: As for `consult`.
            to: As for `consult`.
            accept: Awaited with the consult; says whether its partner really took
                the call, which an answering machine didn't. It is cancelled when
                the partner leaves.
            router: As for `consult`.
            options: What else `consult` takes.

        Returns:
            Address of the one who took it, and has the customer.

        Raises:
            NobodyAnsweredError: Nobody took it; the customer is with the agent.
            CustomerLeftError: The customer hung up meanwhile.
            CustomerOnHoldError: Nobody can say that the customer isn't alone.
            VerdictError: A transfer or the hang-up was not accepted; the customer
                is with the agent.
            HandoverError: The pool was closed meanwhile.
            InvalidInputError: As for `consult` and for entering its block.
            JournalError: The journal can't be written; nothing was sent.
        """
        check_callable(accept, "accept")
        consult = self.consult(
            node, agent=agent, customer=customer, to=to, router=router, **options
        )
        return await consult.hand_over(accept)

    async def recover_handovers(
        self,
        journal: Journal,
        *,
        not_older_than: float = 300.0,
        bring_back_within: float = 30.0,
    ) -> list[Recovered]:
        """Bring back the customers of handovers that a crash left open.

        Call it once the journal is open again. Handovers of this process are
        left alone. What can't be settled is logged as CRITICAL and stays in the
        journal; what is too old is logged as CRITICAL, too.

        Args:
            journal: Open, and the one that they were begun with.
            not_older_than: Seconds since they began, so above your longest talk
                of agent and partner. Of older ones nothing is sent, and they are
                forgotten: by now an abort might end somebody's newer transfer.
            bring_back_within: Seconds for which an abort is tried again.

        Returns:
            Each handover, and what came of it.

        Raises:
            JournalError: The journal is closed, or can't be read or written.
            InvalidInputError: An argument can't be right, or the pool isn't open.
        """
        from aiophlo.handover.recovery import Rescue  # noqa: PLC0415 -- see above
        from aiophlo.journal import Journal  # noqa: PLC0415

        check_type(journal, Journal, "journal")
        check_seconds(not_older_than, "not_older_than")
        check_seconds(bring_back_within, "bring_back_within")
        if self._closed or not self._opened:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        rescue = Rescue(
            journal.handovers,
            self._caring(),
            self._sender_for,
            not_older_than=not_older_than,
            within=bring_back_within,
        )
        return await rescue.run()

    def _caring(self) -> Care:
        from aiophlo.handover.care import Care  # noqa: PLC0415 -- see above

        if self._care is None:
            self._care = Care()
        return self._care

    def _sender_for(self, account: Account | str | None) -> Sender:
        sender = self._senders.get(self._account(account).auth_id)
        if sender is None:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        return sender

    def _account(self, account: Account | str | None) -> Account:
        known = self._accounts
        if account is None and len(known) == 1:
            return next(iter(known.values()))
        if account is None:
            message = f"account: expected one of the pool's {len(known)} accounts"
            raise InvalidInputError(message, field="account")
        auth_id = account.auth_id if isinstance(account, Account) else account
        if not isinstance(auth_id, str) or auth_id not in known:
            message = "account: expected one that the pool was made with"
            raise InvalidInputError(message, field="account")
        return known[auth_id]

    def _sender(self, account: Account) -> Sender:
        owner = account.quota_owner
        if owner not in self._slots:
            self._slots[owner] = _slots_of(account)
        slots, dial_slots = self._slots[owner]
        return Sender(
            account,
            self._transport(account),
            slots,
            dial_slots,
            Permits(self._connections),
            policy=self._retry,
            rivals=self._rivals,
            under_way=self._under_way,
            observers=self._observers,
            random=self._random,
            trailing_slash=self._trailing_slash,
        )

    def _transport(self, account: Account) -> Transport:
        headers = {
            "Authorization": account.authorization,
            "User-Agent": self._user_agent,
            "Accept": "application/json",
        }
        session = self._borrowed_session
        if session is None:
            session = aiohttp.ClientSession(
                connector=self._connector,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=headers,
            )
            self._sessions.append(session)
        return Transport(
            session,
            self._base_url,
            None if session in self._sessions else headers,
            connect=self._connect,
            answer_within=self._answer_within,
            proxy=self._proxy,
            tls=self._ssl,
        )

    def _close_slots(self, lane: Lane) -> None:
        for pair in self._slots.values():
            for slots in filter(None, pair):
                slots.close(lane)

    def _longest_exchange(self) -> float:
        return self._connect + 2 * self._answer_within

    async def _until_idle(self) -> None:
        try:
            async with asyncio.timeout(self._longest_exchange()):
                await self._under_way.none_left()
        except TimeoutError:
            logger.warning("closed with %d actions under way", self._under_way.number)


def _slots_of(account: Account) -> tuple[Slots, Slots | None]:
    loop = asyncio.get_running_loop()
    slots = Slots(Pacer.of_quota(account.quota), loop)
    if account.calls_per_second is None:
        return slots, None
    return slots, Slots(Pacer(1.0 / account.calls_per_second), loop)


def _not_open(action: Action, pool: SessionPool) -> Outcome:
    return NotSent(action=action, reason=Reason.CLOSED, attempts=0, error=repr(pool))
