"""SessionPool: the facade of the library.

What only batches, journals and handovers need is imported when there is one:
most never begin any, and it would double what importing this library costs.
"""

from __future__ import annotations

import functools
import os
import random
import ssl
import warnings
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import aiohttp
import attrs

import aiophlo  # for annotations: what they name is loaded when they are resolved
from aiophlo._version import __version__
from aiophlo.errors import InvalidInputError, accepted_or_raise
from aiophlo.handles import AnyRole, MultiPartyCall, Phlo
from aiophlo.instrumentation import Observers, check_observers
from aiophlo.loop_guard import LoopGuard
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Action, Lane, Role
from aiophlo.model.invalid_input import refuse
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason
from aiophlo.model.validation import (
    check_accounts,
    check_async_callable,
    check_callable,
    check_caller_ids,
    check_count,
    check_folder,
    check_lane,
    check_look_for,
    check_on_duplicate,
    check_optional,
    check_seconds,
    check_send_within,
    check_type,
)
from aiophlo.protocol.client_set import HttpClients, HttpOptions
from aiophlo.protocol.environment import (
    resolve_base_url,
    resolve_proxy,
    resolve_voice_url,
)
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.kept_connections import DEFAULT_KEEPALIVE
from aiophlo.protocol.validation import check_session, check_user_agent
from aiophlo.sending.account_senders import AccountSenders
from aiophlo.sending.retry import RetryPolicy
from aiophlo.sending.sender import AccountState, Sender
from aiophlo.shielding import shield_from_cancelled_scope

if TYPE_CHECKING:
    from aiophlo.batch.unseen import Unseen
    from aiophlo.handover.registry import HandoverRegistry
    from aiophlo.handover.sighted_hangup import Look
    from aiophlo.looking.looking import Looking

USER_AGENT = f"aiophlo/{__version__}"


class SessionPool:
    """Sends actions for one account or many, over one pool of connections.

    Use it as `async with SessionPool(account) as pool:`, or call `open` and
    `close`. One pool serves one event loop, in one process: used from another, or
    in a forked child, it raises `InvalidInputError` before anything leaves.

    Args:
        accounts: One or more.
        base_url: Where the API is. By default what the environment's
            `AIOPHLO_BASE_URL` says, else Plivo's own.
        allow_plaintext: Let the credentials go to an `http://` base URL on another
            machine, or through a proxy, where everybody on the way can read them.
        connect: Seconds to get a connection.
        answer_within: Seconds that a whole answer may take, once its request has
            left, before the action is in doubt. At least 1.
        connections_per_account: Exchanges that one account may have under
            way, so that its trouble doesn't starve the others. Fewer where
            `ulimit -n` doesn't leave as many files, or a lent connector's
            `limit` as many connections.
        keepalive: Seconds that an idle connection is kept. Longer than the
            server keeps it, and a transfer now and then ends in doubt. A server
            that says in `Keep-Alive` that it keeps it for less is believed.
        connection_lifetime: Seconds after which a connection is not kept any
            more, however busy it is, so that a change of the API's address in
            the DNS is followed.
        retry: How often and how soon an action may be sent again.
        trailing_slash: End the path of every POST in `/`, as plivo-python does.
        user_agent: Sent with every request.
        proxy: URL of an HTTP proxy, which never gets an account's credentials.
        trust_env: Take the proxy from the environment (`HTTPS_PROXY`, `ALL_PROXY`,
            but for what `NO_PROXY` excepts), if none is given.
        ssl_context: What to trust, instead of the system's certificates.
        connector: Yours to close; replaces the pool's own.
        session: Yours to close; replaces the pool's own, connector and all. The
            connections that the pool uses are reset when they are closed.
        observers: Plain callables, told of every action begun, attempt begun and
            ended, and action ended or joined, and every step and end of a
            handover: see `ObservedEvent`. What one raises is logged once.
        random: Returns a number from 0 to below 1; spreads the waits between
            attempts.
        voice_url: Where the Voice API is, which lists calls for `look`. By default
            Plivo's own; with another `base_url` than Plivo's, that one.
        caller_ids: Numbers that your PHLOs call from, where nothing else of the account
            does: `look` takes no call from another number for a dial's, and need not
            wait until all calls are listed. Without them a pool that looks learns them
            from dials that it has made, if these agree.
        coordinator: What is shared with other pools, a
            `aiophlo.postgres.PostgresCoordinator`: the quota, one dial per double
            click, which action on a party is the newest; and events of calls, if it
            is the router's, too. None shares nothing.

    Raises:
        InvalidInputError: An argument can't be right; nothing was sent.

    Source:
        Plivo docs, "PHLO API": the base URL. That POSTs take no trailing
        slash: the documentation, plivo-node and plivo-go; plivo-python adds one.
    """

    def __init__(
        self,
        *accounts: Account,
        base_url: str | None = None,
        allow_plaintext: bool = False,
        connect: float = 3.0,
        answer_within: float = 10.0,
        connections_per_account: int = 1_000,
        keepalive: float = DEFAULT_KEEPALIVE,
        connection_lifetime: float = 300.0,
        retry: RetryPolicy = RetryPolicy(),
        trailing_slash: bool = False,
        user_agent: str = USER_AGENT,
        proxy: str | None = None,
        trust_env: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        connector: aiohttp.BaseConnector | None = None,
        session: aiohttp.ClientSession | None = None,
        observers: Sequence[aiophlo.Observer] = (),
        random: Callable[[], float] = random.random,
        voice_url: str | None = None,
        caller_ids: Sequence[str] = (),
        coordinator: aiophlo.coordination.Coordinator | None = None,
    ) -> None:
        self._opened = False
        self._closed = False
        self._accounts = check_accounts(accounts)
        check_type(allow_plaintext, bool, "allow_plaintext")
        base_url = resolve_base_url(base_url, allow_plaintext=allow_plaintext)
        self._http_options = HttpOptions(
            base_url=base_url,
            allow_plaintext=allow_plaintext,
            connect=check_seconds(connect, "connect"),
            answer_within=check_seconds(answer_within, "answer_within", least=1.0),
            keepalive=check_seconds(keepalive, "keepalive"),
            connection_lifetime=check_seconds(
                connection_lifetime, "connection_lifetime"
            ),
            user_agent=check_user_agent(user_agent),
            proxy=resolve_proxy(
                proxy,
                base_url=base_url,
                trust_env=check_type(trust_env, bool, "trust_env"),
                allow_plaintext=allow_plaintext,
            ),
            tls=check_optional(ssl_context, ssl.SSLContext, "ssl_context"),
            connector=check_optional(connector, aiohttp.BaseConnector, "connector"),
            session=check_session(session, connector),
        )
        self._http_clients = HttpClients(self._http_options)
        self._voice_options = attrs.evolve(
            self._http_options,
            base_url=(
                voice_url := resolve_voice_url(
                    voice_url, base_url=base_url, allow_plaintext=allow_plaintext
                )
            ),
            proxy=resolve_proxy(
                proxy,
                base_url=voice_url,
                trust_env=trust_env,
                allow_plaintext=allow_plaintext,
            ),
        )
        self._caller_ids = check_caller_ids(caller_ids)
        self._looking: Looking | None = None
        self._observers = Observers(check_observers(observers))
        self._account_senders = AccountSenders(
            connections_per_account=check_count(
                connections_per_account, "connections_per_account"
            ),
            policy=check_type(retry, RetryPolicy, "retry"),
            observers=self._observers,
            random=check_callable(random, "random"),
            trailing_slash=check_type(trailing_slash, bool, "trailing_slash"),
        )
        self._senders = self._account_senders.by_auth_id
        self._random = random
        self._coordinator = coordinator
        self._registry: HandoverRegistry | None = None
        self._guard: LoopGuard | None = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if getattr(self, "_opened", False) and not self._closed:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._opened else "not open"
        return f"<SessionPool of {len(self._accounts)} accounts, {state}>"

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that it sends for, as given."""
        return tuple(self._accounts.values())

    @property
    def coordinator(self) -> aiophlo.coordination.Coordinator | None:
        """What it shares with other pools, as given."""
        return self._coordinator

    def add_observer(self, observer: aiophlo.Observer) -> None:
        """Tell one more observer from now on, as those that the pool was made with.

        Args:
            observer: A plain callable.

        Raises:
            InvalidInputError: It is none.
        """
        (observer,) = check_observers([observer])
        self._observers.add(observer, self if self._opened else None)

    async def open(self) -> Self:
        """Make the pool ready to send on the running event loop.

        Raises:
            InvalidInputError: It was open before, or is closed.
        """
        if self._opened or self._closed:
            raise InvalidInputError(f"pool: expected a new one, got {self!r}")
        self._opened = True
        self._guard = LoopGuard("pool")
        if self._coordinator is not None:
            try:
                await self._coordinator.open(self._random, self._accounts.values())
            except BaseException:
                self._opened = False
                raise
        self._account_senders.open(
            self._accounts.values(),
            self._http_client,
            most_connections=self._http_clients.open(),
            check_loop=self._guard.check,
            coordinator=self._coordinator,
        )
        self._observers.attach(self)
        if self._coordinator is not None:
            self._coordinator.attach(self)
            self._share_handovers(self._coordinator)
        return self

    async def drain(self, *, within: float = 60.0) -> None:
        """Begin no more handovers, and wait until those that are open have ended.

        For a service that is told to stop, **before** it stops listening: they end
        in their own ways for as long as their events arrive, and an answered phone is
        noticed. Other actions are sent as ever. Then close the pool.
        `drain_on_signal` does it when a signal comes.

        Args:
            within: Seconds that they have. Those that are open still are ended then:
                the customers are brought back, which is waited for, too, within
                their `bring_back_within` and some answers.

        Raises:
            InvalidInputError: `within` can't be right, or the pool isn't open.
        """
        check_seconds(within, "within")
        self._check_loop()
        if self._closed:
            return
        if not self._opened:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        with shield_from_cancelled_scope():
            await self._handovers().drain(
                within, 2 * self._http_options.longest_exchange
            )

    async def close(self) -> None:
        """Refuse new actions, let those under way end, then close what is ours.

        Open handovers are ended first: each customer is brought back to the
        agent. Waits up to `connect` and twice `answer_within` more, longer than
        an exchange may take; what is still under way then is logged, and ends
        in doubt.

        Raises:
            InvalidInputError: It was opened on another event loop, in another
                thread or in the process that this one was forked from.
        """
        if self._closed:
            return
        self._check_loop()
        self._closed = True
        if self._looking is not None:
            self._looking.close()
        self._account_senders.refuse(Lane.AWAITED)
        try:
            with shield_from_cancelled_scope():
                await self._end_what_is_open()
        finally:
            self._observers.close()

    async def _end_what_is_open(self) -> None:
        try:
            if self._registry is not None:
                await self._registry.close(2 * self._http_options.longest_exchange)
            self._account_senders.refuse(Lane.URGENT)
            await self._account_senders.wait_until_idle(
                within=self._http_options.longest_exchange
            )
        finally:
            try:
                await self._http_clients.close()
            finally:
                if self._coordinator is not None and self._opened:  # else another's
                    await self._coordinator.close()

    async def send(
        self,
        action: Action,
        *,
        account: Account | str | None = None,
        send_within: float | None = 10.0,
        on_duplicate: Literal["join", "send"] = "join",
        look: bool = False,
        look_for: float = 8.0,
    ) -> Accepted:
        """Send one action and wait for its verdict.

        Args:
            action: What is asked.
            account: Whose, or its `auth_id`; may be left out with one account.
            send_within: Seconds after which sending is worthless; what is not
                out by then is not sent. None waits for ever.
            on_duplicate: What to do with a `WarmTransfer`, `ColdTransfer` or
                `AddUser` that equals one under way, or one accepted or left in
                doubt less than 3 seconds ago, however that one was sent: awaited,
                by a handover, or by a stream, where it is under way from when it
                queues for its slot. `"join"` returns the outcome of that one,
                marked `joined`; if it hasn't left within this one's `send_within`,
                this one is not sent. `"send"` rings again; later equal ones join it.
            look: Look for a `WarmTransfer`, `ColdTransfer` or `AddUser` that is in
                doubt in Plivo's list of calls before raising, as `look` does: seen,
                it is accepted. That PHLO's calls are listed there is assumed: see
                `aiophlo check --calls`.
            look_for: Seconds for which it is looked for.

        Returns:
            The outcome, if Plivo said yes, or the call was seen.

        Raises:
            RejectedError: Plivo said no.
            NotSentError: Nothing rings: sending again is safe.
            InDoubtError: A phone may be ringing.
            InvalidInputError: An argument can't be right; nothing was sent.
        """
        whose = self._account(account)
        check_type(action, Action, "action")
        check_send_within(send_within)
        send_repeats = check_on_duplicate(on_duplicate, "join")
        if look is not False:  # which is checked no further: most never look
            check_type(look, bool, "look")
            check_look_for(look_for)
        if self._closed or not self._opened:
            refused = _not_open(action, self)
            self._observers.action_ended(whose, refused)
            return accepted_or_raise(refused)
        self._check_loop()
        looking = None if look is False else self._looks()
        outcome = await self._senders[whose.auth_id].send(
            action,
            send_within=send_within,
            once=not send_repeats,
        )
        if looking is not None and looking.can_look_for(outcome):
            sighting = await looking.look(outcome, whose, look_for=look_for)
            outcome = sighting.outcome
        return accepted_or_raise(outcome)

    async def look(
        self,
        outcome: InDoubt,
        *,
        account: Account | str | None = None,
        look_for: float = 8.0,
    ) -> aiophlo.Sighting:
        """Look in Plivo's list of calls whether the phone that is in doubt was rung.

        Seen proves that it was; unseen proves nothing. By GETs alone, at the account's
        rate, behind everything else that waits for it: nothing rings. A call is taken
        for the dial's if it goes out to the address that was dialled, began when the
        request was under way, calls from the pool's `caller_ids`, given or learned, and
        is the only such one; where these aren't known, once all calls are listed that
        would be. No other dial to that phone may have left at the same time, of this
        pool or of one that shares its coordinator, which remembers a minute: it holds
        only where these place all dials of the account to that phone.

        Args:
            outcome: Of a `WarmTransfer`, `ColdTransfer` or `AddUser`, with its
                `left_at`.
            account: Whose, or its `auth_id`; may be left out with one account.
            look_for: Seconds until it is given up, but for the last answer; 0 looks
                once, at once.

        Returns:
            What was seen, with the outcome that it makes.

        Raises:
            InvalidInputError: An argument can't be right, or the pool isn't open.

        Source:
            Plivo docs, "Calls". Assumed: what PHLOs dial is listed there within four
            seconds.
        """
        whose = self._account(account)
        check_type(outcome, InDoubt, "outcome")
        check_look_for(look_for)
        self._check_loop()
        if self._closed or not self._opened:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        looking = self._looks()
        if not looking.can_look_for(outcome):
            refuse("outcome", "one of a dial that knows when it left")
        return await looking.look(outcome, whose, look_for=look_for)

    def stream(
        self,
        actions: Iterable[Action] | AsyncIterable[Action],
        *,
        concurrency: int = 200,
        send_within: float | Callable[[Action], float | None] | None = None,
        lane: Lane = Lane.STREAMED,
        journal: aiophlo.Journal | aiophlo.SharedJournal | None = None,
        include_in_doubt: bool | Literal["unseen"] = False,
        unseen_after: float = 300.0,
        on_duplicate: Literal["skip", "send"] = "skip",
        account: Account | str | Callable[[Action], Account | str] | None = None,
    ) -> aiophlo.Stream:
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
                is worthless; None waits for ever. Or what says so for each action.
            lane: Where they queue for their slots: behind what is awaited
                (`Lane.STREAMED`), or with it (`Lane.AWAITED`).
            journal: An open `Journal`, which remembers what was sent through
                kills, so that nothing is sent twice; or, for several runners on one
                list, `PostgresCoordinator.journal(…)`.
            include_in_doubt: Send again what an earlier run left in doubt, at
                the risk that a phone rings twice. `"unseen"` looks for it first, as
                `look` does: what is seen is accepted, and only that is sent again of
                which no call could be seen in lists that were read whole. A call that
                is never listed rings twice all the same.
            unseen_after: Seconds since it left before which what is in doubt is left
                alone, with `include_in_doubt="unseen"`.
            on_duplicate: What to do with a `WarmTransfer`, `ColdTransfer` or
                `AddUser` that equals an earlier one of this stream in all but
                its key, once addresses are in the form in which they are sent:
                `"skip"` makes it `NotSent(duplicate)`, whatever came of the
                earlier one, and leaves it out of the journal; `"send"` rings
                again. Costs 16 bytes per dial.
            account: Whose actions, or its `auth_id`, or what says so for each
                action; may be left out with one account.

        Raises:
            InvalidInputError: An argument can't be right; nothing was sent.
        """
        from aiophlo.batch.stream import Stream, StreamOptions  # noqa: PLC0415 -- see above

        if not callable(account):
            self._account(account)
        again = bool(include_in_doubt)
        if include_in_doubt != "unseen":
            again = check_type(include_in_doubt, bool, "include_in_doubt")
        check_seconds(unseen_after, "unseen_after")
        stream = Stream(
            actions,
            lambda action: self._sender_for(
                account(action) if callable(account) else account
            ),
            StreamOptions(
                concurrency=check_count(concurrency, "concurrency"),
                send_within=(
                    send_within
                    if callable(send_within)
                    else check_send_within(send_within)
                ),
                lane=check_lane(lane),
                journal=journal,
                include_in_doubt=again,
                send_repeats=check_on_duplicate(on_duplicate, "skip"),
                check_loop=self._check_loop,
                unseen=(
                    self._unseen(unseen_after) if include_in_doubt == "unseen" else None
                ),
            ),
        )
        self._check_opened()
        if include_in_doubt and journal is None:
            refuse("include_in_doubt", "a journal that knows what is in doubt")
        return stream

    async def send_all(
        self,
        actions: Iterable[Action],
        *,
        concurrency: int = 200,
        send_within: float | None = None,
        on_duplicate: Literal["skip", "send"] = "skip",
        account: Account | str | Callable[[Action], Account | str] | None = None,
    ) -> aiophlo.BatchReport:
        """Send a short list of actions, and wait for all of their outcomes.

        Args:
            actions: Few enough to keep all of their outcomes.
            concurrency: As for `stream`.
            send_within: As for `stream`.
            on_duplicate: As for `stream`.
            account: As for `stream`.

        Returns:
            The outcomes, in the order of the actions.

        Raises:
            InvalidInputError: An argument can't be right; nothing was sent.
        """
        from aiophlo.batch.stream import BatchReport  # noqa: PLC0415 -- see above

        async with self.stream(
            actions,
            concurrency=concurrency,
            send_within=send_within,
            on_duplicate=on_duplicate,
            account=account,
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
        customer: str | None,
        to: str | Sequence[str],
        shared: str | Sequence[str] = (),
        ring_for: float = 20.0,
        router: aiophlo.EventRouter | None = None,
        journal: aiophlo.Journal | None = None,
        role: AnyRole = Role.AGENT,
        conference_uuid: str | None = None,
        customer_call_uuid: str | None = None,
        send_within: float = 10.0,
        told_within: float | None = None,
        bring_back_within: float = 30.0,
        look: bool = False,
    ) -> aiophlo.Consult:
        """Return a warm transfer from first ring to last hang-up; nothing is sent yet.

        ::

            async with pool.consult(node, agent=…, to=…, router=…, …) as consult:
                ...  # agent and partner talk, the customer hears music
                await consult.complete()  # the customer talks to the partner

        Entering the block rings one target after the other until one answers; the
        next only once the one before is known to be out. Leaving it without
        `complete()`, by return, exception, timeout or cancellation, brings the
        customer back, and waits for that. An address is in one open handover at
        most, be it as agent or as target.

        Args:
            node: The multi-party call that agent and customer are in.
            agent: Address of the agent, who starts the transfer.
            customer: Address of the customer, by which events tell of them; nothing
                is ever dialled with it. For one who withholds their number, a text
                without digits such as `anonymous`, whatever events say instead; None
                with `conference_uuid` or `customer_call_uuid`. They are known then by
                `customer_call_uuid`; without it, by withholding their number in this
                conversation, or else by having called in and being nobody else who
                is known.
            to: Whom to reach: an address, or several in order.
            shared: Those of them that take many callers at once, such as the number
                of a queue: they may be in several handovers.
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
            customer_call_uuid: call_uuid of the customer's call, where you know it.
            send_within: Seconds after which a transfer or hang-up is worthless.
            told_within: Seconds by which events may be behind the call: so long
                is waited for what may still be told. None for the router's, which
                is 2 unless you said otherwise.
            bring_back_within: Seconds for which an abort is tried again.
            look: Look in Plivo's list of calls, as `SessionPool.look` does, while a
                transfer in doubt may ring: a hang-up that is seen there ends the ring,
                as `busy`, `declined`, `no_answer` or `failed`.

        Raises:
            InvalidInputError: An argument can't be right, or the pool isn't open.
        """
        from aiophlo.handover.consult import Consult  # noqa: PLC0415 -- see above
        from aiophlo.handover.options import HandoverOptions  # noqa: PLC0415 -- same

        options = HandoverOptions(
            node=node,
            agent=agent,
            customer=customer,
            targets=to,
            shared=shared,
            ring_for=ring_for,
            router=router,
            journal=journal,
            role=role,
            conference_uuid=conference_uuid,
            customer_call_uuid=customer_call_uuid,
            send_within=send_within,
            told_within=_told_within(told_within, router),
            bring_back_within=bring_back_within,
            look=self._look_of(node) if check_type(look, bool, "look") else None,
        )
        if options.router is not None:
            options.router.check_coordinator(self._coordinator)
        return Consult(options, self._sender_for(node.phlo.account), self._handovers())

    async def hand_over(
        self,
        node: MultiPartyCall,
        *,
        agent: str,
        customer: str | None,
        to: str | Sequence[str],
        accept: aiophlo.Accept,
        router: aiophlo.EventRouter,
        accept_within: float | None = 60.0,
        **options: Unpack[aiophlo.ConsultOptions],
    ) -> str:
        """Hand a customer over to the first one who takes the call.

        `consult` without a block, for bots: `accept` is asked about everybody who
        answers, and where it says no, or they leave, the next one is rung.

        Args:
            node: As for `consult`.
            agent: As for `consult`.
            customer: As for `consult`.
            to: As for `consult`.
            accept: An async function, awaited with the consult; says whether its
                partner really took the call, which an answering machine didn't. It
                is cancelled when the partner, the customer or the agent leaves, as
                `Consult.ended` tells.
            router: As for `consult`.
            accept_within: Seconds that `accept` may take, the customer being on
                hold; whoever it is still asking about then hasn't taken the call.
                None for as long as it likes.
            options: What else `consult` takes.

        Returns:
            Address of the one who took it, and has the customer.

        Raises:
            NobodyAnsweredError: Nobody took it; the customer is with the agent.
            EngagedError: The agent, or everybody to be reached, is in another open
                handover; nothing was sent.
            CustomerLeftError: The customer hung up meanwhile.
            CustomerOnHoldError: Nobody can say that the customer isn't alone.
            VerdictError: A transfer or the hang-up was not accepted; the customer
                is with the agent. A NotFoundError may also mean that the agent has
                left and no event told of it: then the customer is alone.
            HandoverError: The pool was closed meanwhile.
            InvalidInputError: As for `consult` and for entering its block.
            JournalError: The journal can't be written; nothing was sent.
        """
        check_async_callable(accept, "accept")
        if accept_within is not None:
            check_seconds(accept_within, "accept_within")
        consult = self.consult(
            node, agent=agent, customer=customer, to=to, router=router, **options
        )
        return await consult.hand_over(accept, accept_within=accept_within)

    async def recover_handovers(
        self,
        journal: aiophlo.Journal | str | os.PathLike[str],
        *,
        not_older_than: float = 300.0,
        bring_back_within: float = 30.0,
    ) -> list[aiophlo.Recovered]:
        """Bring back the customers of handovers that a crash left open.

        Call it once the journal is open again. Handovers of this process are
        left alone. What can't be settled is logged as CRITICAL and stays in the
        journal; what is too old is logged as CRITICAL, too.

        Where several worker processes have a journal each, in one folder and
        under a name that no later process takes, give the folder: journals with
        open handovers whose process is dead are opened one after the other, each
        by one worker; those in use are passed over.

        Args:
            journal: Open, and the one that they were begun with; or the folder
                of several.
            not_older_than: Seconds since they began, so above your longest talk
                of agent and partner. Of older ones nothing is sent, and they are
                forgotten: by now an abort might end the agent's newer transfer.
            bring_back_within: Seconds for which an abort is tried again.

        Returns:
            Each handover, and what came of it.

        Raises:
            JournalError: The journal is closed, or can't be read or written.
            InvalidInputError: An argument can't be right, or the pool isn't open.
        """
        from aiophlo.handover.adoption import recover  # noqa: PLC0415 -- see above
        from aiophlo.handover.recovery import Rescue, Rescuer  # noqa: PLC0415 -- same
        from aiophlo.journal.journal import Journal  # noqa: PLC0415 -- same

        check_seconds(not_older_than, "not_older_than")
        check_seconds(bring_back_within, "bring_back_within")
        if self._closed or not self._opened:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        self._check_loop()
        registry = self._handovers()
        rescuer = Rescuer(
            registry,
            self._sender_for,
            not_older_than=not_older_than,
            within=bring_back_within,
        )
        rescue = functools.partial(Rescue, registry=registry, rescuer=rescuer)
        if not isinstance(journal, Journal):
            journal = check_folder(journal, "journal")
        return await recover(journal, rescue)

    def _share_handovers(self, coordinator: aiophlo.coordination.Coordinator) -> None:
        """Let other pools know of handovers, and take over what they leave behind."""
        from aiophlo.handover.recovery import Rescuer, Takeovers  # noqa: PLC0415 -- same

        registry = self._handovers()
        rescuer = Rescuer(registry, self._sender_for, not_older_than=300.0, within=30.0)
        registry.shared = coordinator.handovers(Takeovers(registry, rescuer))

    def _check_opened(self) -> None:
        if not self._opened:
            raise InvalidInputError(f"pool: expected an open one, got {self!r}")
        self._check_loop()

    def _unseen(self, after: float) -> Unseen:
        from aiophlo.batch.unseen import Unseen  # noqa: PLC0415 -- see above

        self._check_opened()
        return Unseen(self._looks().look_once, after)

    def _look_of(self, node: MultiPartyCall) -> Look:
        account = self._account(check_type(node, MultiPartyCall, "node").phlo.account)
        self._sender_for(account)  # which raises unless the pool is open
        return functools.partial(self._looks().look, account=account)

    def _handovers(self) -> HandoverRegistry:
        from aiophlo.handover.registry import HandoverRegistry  # noqa: PLC0415 -- see above

        self._check_loop()
        if self._registry is None:
            self._registry = HandoverRegistry()
        return self._registry

    def _check_loop(self) -> None:
        if self._guard is not None:
            self._guard.check()

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
            refuse("account", f"one of the pool's {len(known)} accounts")
        auth_id = account.auth_id if isinstance(account, Account) else account
        if not isinstance(auth_id, str) or auth_id not in known:
            refuse("account", "one that the pool was made with")
        return known[auth_id]

    def _http_client(self, account: Account) -> HttpClient:
        return self._http_clients.client_of(account)

    def _voice_client(self, account: Account) -> HttpClient:
        return self._http_clients.client_of(account, self._voice_options)

    def _looks(self) -> Looking:
        from aiophlo.looking.looking import Looking  # noqa: PLC0415 -- see above

        if self._looking is None:
            self._looking = Looking(
                self._account_senders, self._voice_client, self._caller_ids
            )
        return self._looking


def _told_within(
    told_within: float | None, router: aiophlo.EventRouter | None
) -> float:
    if told_within is None:
        return getattr(router, "told_within", 2.0)  # what is no router is refused later
    return told_within


def _not_open(action: Action, pool: SessionPool) -> Outcome:
    return NotSent(action=action, reason=Reason.CLOSED, attempts=0, error=repr(pool))
