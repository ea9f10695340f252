"""What the tests of the pool share: every action, and an API that is all script."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from aiophlo import (
    AbortTransfer,
    Accepted,
    Account,
    Action,
    AddUser,
    BridgeLeave,
    BridgeMute,
    BridgeUnmute,
    ColdTransfer,
    GetNode,
    GetPhlo,
    Hangup,
    Hold,
    Mute,
    Outcome,
    ResumeCall,
    RunPhlo,
    SessionPool,
    Unhold,
    Unmute,
    VerdictError,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.protocol.codec import Answer, NoAnswer, Request
from aiophlo.protocol.http_client import HttpClient
from aiophlo.protocol.tracked_request import TrackedRequest
from aiophlo.sending.sender import Sender
from aiophlo.simulator import Simulator

PHLO_ID: Final = "5d2f8a5e-phlo"
NODE_ID: Final = "9c1b7c40-node"
AGENT: Final = "+14152223333"
RINGS: Final = (AddUser, WarmTransfer, ColdTransfer)
# Doing one of these twice is doing it once; and Plivo's word for each.
SETTERS: Final[dict[type[Action], str]] = {
    AbortTransfer: "abort_transfer",
    Hangup: "hangup",
    Hold: "hold",
    Unhold: "unhold",
    Mute: "mute",
    Unmute: "unmute",
    BridgeMute: "bridge_mute",
    BridgeUnmute: "bridge_unmute",
    BridgeLeave: "bridge_leave",
}
READS: Final[dict[type[Action], str]] = {GetPhlo: "get_phlo", GetNode: "get_node"}
# A second one of these is a second ring, or is heard.
ONCE_ONLY: Final[dict[type[Action], str]] = {
    AddUser: "call",
    WarmTransfer: "warm_transfer",
    ColdTransfer: "cold_transfer",
    ResumeCall: "resume_call",
    VoicemailDrop: "voicemail_drop",
    RunPhlo: "run_phlo",
}
WORDS: Final = {**SETTERS, **READS, **ONCE_ONLY}
ACCEPTED: Final = Answer(201, {}, b'{"api_id": "1", "error": ""}')


def address(number: int) -> str:
    """Return an address of its own for each number."""
    return f"+1415{number:07d}"


def act(kind: type[Action], number: int = 0) -> Action:
    """Make an action of any kind, about the address of `number`."""
    fields: dict[str, Any] = {"phlo_id": PHLO_ID}
    if kind in RINGS:
        fields |= {"node_id": NODE_ID, "to": address(number), "trigger_source": AGENT}
    elif kind is RunPhlo:
        fields |= {"parameters": {"to": address(number)}}
    elif kind is GetNode:
        fields |= {"node_id": NODE_ID}
    elif kind is not GetPhlo:
        fields |= {"node_id": NODE_ID, "member": address(number)}
    return kind(**fields)


def account_of(simulator: Simulator, **limits: Any) -> Account:  # noqa: ANN401 -- Account's own
    """Return the simulator's account, unpaced unless told otherwise."""
    limits.setdefault("quota", None)
    return Account(simulator.auth_id, simulator.auth_token, **limits)


def pool_of(
    simulator: Simulator,
    *accounts: Account,
    **options: Any,  # noqa: ANN401 -- SessionPool's own
) -> SessionPool:
    """Return a pool that speaks to the simulator and repeats without waiting."""
    options.setdefault("base_url", simulator.base_url)
    options.setdefault("random", lambda: 0.0)
    return SessionPool(*(accounts or [account_of(simulator)]), **options)


async def outcome_of(sending: Coroutine[Any, Any, Accepted]) -> Outcome:
    """Return the outcome of a send, raised or not."""
    try:
        return await sending
    except VerdictError as error:
        if error.outcome is None:
            raise
        return error.outcome


class ScriptedHttpClient(HttpClient):
    """Answers by calling a function; no network.

    Args:
        answer: Gives what comes back for a request.

    Attributes:
        requests: Those that were made.
    """

    def __init__(
        self, answer: Callable[[Request], Awaitable[Answer | NoAnswer]]
    ) -> None:
        self.base_url = "https://phlo.invalid/v1"
        self.requests: list[Request] = []
        self._answer = answer

    async def exchange(
        self, request: Request, tracked: TrackedRequest, *, within: float
    ) -> Answer | NoAnswer:
        """Give what the script says."""
        del within
        self.requests.append(request)
        tracked.left = True
        answer = await self._answer(request)
        if isinstance(answer, NoAnswer):
            tracked.left = answer.left
        return answer


class ScriptedPool(SessionPool):
    """A pool over transports of the test's own, for tests on a virtual clock.

    Args:
        accounts: As for `SessionPool`.
        transports: One for each account, or one for all.
        options: As for `SessionPool`.
    """

    def __init__(
        self,
        *accounts: Account,
        transports: Sequence[HttpClient],
        **options: Any,  # noqa: ANN401 -- SessionPool's own
    ) -> None:
        super().__init__(*accounts, **options)
        self._unused = list(transports)

    def sender(self, account: Account) -> Sender:
        """Return what sends an account's actions."""
        return self._senders[account.auth_id]

    def _http_client(self, account: Account) -> HttpClient:
        del account
        return self._unused[0] if len(self._unused) == 1 else self._unused.pop(0)
