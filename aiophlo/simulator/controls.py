"""What a test can do to the simulator, from any thread."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Self

from aiophlo.simulator.accounts import Accounts
from aiophlo.simulator.call import Call
from aiophlo.simulator.call_list import CallList, Listing, LoneLeg
from aiophlo.simulator.event_poster import OUR_NUMBER, Callback, EventPoster
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.ledger import Ledger, Post
from aiophlo.simulator.people import Habit
from aiophlo.simulator.random_faults import RandomFaults, parse_chances
from aiophlo.simulator.request_handler import Controlling, RequestHandler, Timing
from aiophlo.simulator.scripted_faults import Body, Script, Scripted
from aiophlo.simulator.switchboard import Switchboard
from aiophlo.simulator.thread_access import ThreadAccess, in_its_loop

AUTH_ID: Final = "MASIMULATOR000000001"
AUTH_TOKEN: Final = "bm90LWEtc2VjcmV0LWp1c3QtYS1zaW11bGF0b3Iw"  # noqa: S105 -- made up


class HeldAnswers:
    """Answers kept back until `release()`, or until the end of a `with` block."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def release(self) -> None:
        """Give the answers that were held, in order, and hold no more."""
        self._release()

    def __enter__(self) -> Self:
        """Change nothing: they are held since this was made."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Release them."""
        self.release()


class SimulatorControls(ThreadAccess):
    """The simulated API without its port, and what a test can do to it.

    Args:
        http_control: Serves the paths beside the API's.
        timing: When things happen.
        quota: As for `Simulator`, like all that follow.

    Attributes:
        auth_id: Id of the first account.
        auth_token: Its secret.
        call_list: Every leg, listed or not.
    """

    def __init__(
        self,
        *,
        http_control: Controlling,
        timing: Timing,
        quota: tuple[int, float] | None,
        retry_after: bool,
        auth_id: str | None,
        auth_token: str | None,
        seed: int,
        strict: bool,
        returns_customer: bool,
        faults: str | Mapping[str, float] | None,
        keep_requests: bool,
    ) -> None:
        super().__init__(Ledger(keep_requests=keep_requests))
        self.auth_id = auth_id or AUTH_ID
        self.auth_token = auth_token or AUTH_TOKEN
        self._accounts = Accounts(quota)
        self._accounts.add(self.auth_id, self.auth_token)
        self._script = Script()
        self._poster = EventPoster(
            tokens=self._accounts.tokens,
            seed=seed,
            posts=self.ledger.posts,
            changed=self._conditions.check,
        )
        self.call_list = CallList(seed)
        self._switchboard = Switchboard(
            strict=strict,
            returns_customer=returns_customer,
            later=_later,
            tell=self._poster.tell,
            changed=self._conditions.check,
            call_list=self.call_list,
        )
        self._chances = RandomFaults(seed, _parse_faults(faults))
        self._handler = RequestHandler(
            ledger=self.ledger,
            accounts=self._accounts,
            script=self._script,
            chances=self._chances,
            switchboard=self._switchboard,
            control=http_control,
            conditions=self._conditions,
            timing=timing,
            retry_after=retry_after,
            seed=seed,
        )

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._handler.connections)

    @property
    def held(self) -> int:
        """Number of answers that are being held."""
        return self._handler.held

    @in_its_loop
    def add_account(
        self, auth_id: str, auth_token: str, main: str | None = None
    ) -> None:
        """Let one more account in.

        Args:
            auth_id: Its id.
            auth_token: Its secret.
            main: Id of the account whose subaccount it is, and whose quota it shares.

        Raises:
            KeyError: There is no account `main`.
        """
        self._accounts.add(auth_id, auth_token, main)

    @in_its_loop
    def answer_next(
        self,
        status: int | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        delay: float = 0.0,
        dialled: bool | None = None,
        to: str | None = None,
        action: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Say how the next fitting request within the quota is answered.

        Args:
            status: HTTP status; None for the answer that is due, with `headers`.
            headers: Added to the answer.
            body: Bytes, text, or what becomes JSON; None for what goes with `status`.
            delay: Seconds before the answer, besides the latency.
            dialled: Whether it takes effect all the same. By default after 2xx (but
                not with an `error` in `body`), 301 to 303, 408 and 5xx.
            to: Only requests that concern this address (`to` or member).
            action: Only this action, in Plivo's word.
            times: For so many requests; None for ever.
        """
        self._script.add(
            Scripted(
                status=status,
                headers=headers or {},
                body=body,
                delay=delay,
                dialled=dialled,
                to=to,
                action=action,
                times=times,
            )
        )

    @in_its_loop
    def fault_next(
        self,
        fault: Fault | str,
        *,
        delay: float = 0.0,
        dialled: bool | None = None,
        to: str | None = None,
        action: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Say how the next fitting request within the quota goes wrong.

        Args:
            fault: How, or its name.
            delay: Seconds before it does, besides the latency.
            dialled: Whether it takes effect all the same; `Fault` says the default.
            to: Only requests that concern this address (`to` or member).
            action: Only this action, in Plivo's word.
            times: For so many requests; None for ever.

        Raises:
            ValueError: There is no such fault.
        """
        self._script.add(
            Scripted(
                fault=Fault(fault),
                delay=delay,
                dialled=dialled,
                to=to,
                action=action,
                times=times,
            )
        )

    def drop_next_answer(
        self, *, to: str | None = None, action: str | None = None, times: int | None = 1
    ) -> None:
        """Let the next fitting request take effect and close without an answer."""
        self.fault_next(Fault.DROP_AFTER_READ, to=to, action=action, times=times)

    @in_its_loop
    def clear_script(self) -> None:
        """Forget scripted answers and faults that are still to come."""
        self._script.clear()

    @in_its_loop
    def hold_answers(self) -> HeldAnswers:
        """Keep answers back from now on; requests still take effect on arrival."""
        self._handler.hold()
        return HeldAnswers(self.release_answers)

    @in_its_loop
    def release_answers(self) -> None:
        """Give the answers that were held, in order, and hold no more."""
        self._handler.release()

    @in_its_loop
    def set_habit(self, habit: Habit, *, address: str | None = None) -> None:
        """Say how somebody takes calls: unless told so, people answer at once.

        Args:
            habit: How.
            address: Who, spelt as in requests; None for all without one of their own.
        """
        self._switchboard.people.set(habit, address)

    @in_its_loop
    def add_node(self, phlo_id: str, node_id: str) -> None:
        """Let a PHLO and a node of it exist in strict mode."""
        self._switchboard.add_node(phlo_id, node_id)

    @in_its_loop
    def place_call(
        self,
        phlo_id: str,
        node_id: str,
        *,
        agent: str,
        customer: str,
        account: str | None = None,
    ) -> Call:
        """Start a live call in which a customer talks to an agent.

        Args:
            phlo_id: PHLO.
            node_id: Multi-party-call node of it.
            agent: The agent's address, spelt as in requests.
            customer: The customer's.
            account: auth_id of the account it runs in; None for the first.

        Returns:
            The call, which shows at any time who is doing what.

        Raises:
            KeyError: There is no such account.
        """
        account = account or self.auth_id
        self._accounts.tokens(account)  # its events couldn't be signed
        return self._switchboard.place(
            phlo_id, node_id, agent=agent, customer=customer, account=account
        )

    @in_its_loop
    def list_calls(self, listing: Listing) -> None:
        """Say how the list of calls tells of the legs from now on."""
        self.call_list.listing = listing

    @in_its_loop
    def place_other_call(
        self,
        address: str,
        *,
        habit: Habit | None = None,
        ours: str = OUR_NUMBER,
        dialled: bool = True,
        account: str | None = None,
    ) -> LoneLeg:
        """Start a call of the account's that no PHLO is asked for.

        Args:
            address: Who is at its other end.
            habit: What they do; None for answering at once.
            ours: The account's number that calls, or is called.
            dialled: They are called, and don't call in.
            account: auth_id of the account; None for the first.
        """
        return self.call_list.dial(
            account or self.auth_id,
            address,
            habit or Habit(),
            ours=ours,
            dialled=dialled,
        )

    @property
    def calls(self) -> list[Call]:
        """Live calls that go on."""
        return self._switchboard.calls

    @in_its_loop
    def reset(self) -> None:
        """Forget all that happened and all that was said; be as at the start.

        Answers that are held are given; live calls end without a word, and so do
        posts under way. What still waits for its answer may yet be counted.
        """
        self._handler.release()
        self._poster.reset()
        self._switchboard.reset()
        self._script.clear()
        self._chances.reset()
        self._accounts.reset()
        self._accounts.add(self.auth_id, self.auth_token)
        self.ledger.clear()

    @in_its_loop
    def post_events(self, callback: Callback | None) -> None:
        """Say where the events of live calls go from now on; None for nowhere."""
        self._poster.callback = callback

    @property
    def posts(self) -> list[Post]:
        """Events that have been posted, the newest last."""
        return self.ledger.posts


def _later(seconds: float, callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, callback)


def _parse_faults(faults: str | Mapping[str, float] | None) -> dict[Fault, float]:
    if isinstance(faults, Mapping):
        faults = ",".join(f"{name}={chance}" for name, chance in faults.items())
    return parse_chances(faults or "")
