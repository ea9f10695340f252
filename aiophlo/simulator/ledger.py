"""What was asked and what rang: the only witness that a verdict is held against."""

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Protocol

import attrs

from aiophlo.simulator.api import DIALLING, READING, Asked

_WORDS: Final = {
    "AddUser": "call",
    "WarmTransfer": "warm_transfer",
    "ColdTransfer": "cold_transfer",
    "AbortTransfer": "abort_transfer",
    "ResumeCall": "resume_call",
    "VoicemailDrop": "voicemail_drop",
    "Hangup": "hangup",
    "Hold": "hold",
    "Unhold": "unhold",
    "Mute": "mute",
    "Unmute": "unmute",
    "BridgeMute": "bridge_mute",
    "BridgeUnmute": "bridge_unmute",
    "BridgeLeave": "bridge_leave",
    "RunPhlo": "run_phlo",
    "GetPhlo": "get_phlo",
    "GetNode": "get_node",
}
_ONCE: Final = DIALLING | {"resume_call", "voicemail_drop"}  # a second one is heard
_TOO_MANY_REQUESTS: Final = 429

_Deed = tuple[str, str, str, str]


class JudgedOutcome(Protocol):
    """What the ledger needs to know of an outcome, whoever made it."""

    @property
    def verdict(self) -> str:
        """One of accepted, rejected, not_sent, in_doubt."""

    @property
    def action(self) -> object:
        """Named by its class, with phlo_id, node_id and to or member."""


def mask(address: str) -> str:
    """Leave of an address what tells two apart in a report."""
    if address.startswith("sip"):
        return "sip:…@" + address.partition("@")[2]
    return "…" + address[-2:]


def _masked(address: str) -> str:
    return repr(mask(address)) if address else "''"


@attrs.define(kw_only=True)
class Record:
    """One request, and what came of it.

    Attributes:
        at: When it had been read, on the simulator's clock, in seconds.
        account: auth_id that asked; empty if it isn't known.
        action: Plivo's word for it, or `run_phlo`, `get_phlo`, `get_node`, `bridge_*`.
        phlo_id: PHLO.
        node_id: Node, or empty.
        to: Address to dial, or empty.
        member: Member's address, or empty.
        trigger_source: Who starts it, or empty.
        applied: Whether it took effect.
        answered: Status of the answer that was written whole, or None.
        fault: What went wrong with the answer on purpose, or None.
    """

    at: float
    account: str
    action: str
    phlo_id: str
    node_id: str
    to: str = attrs.field(repr=_masked)
    member: str = attrs.field(repr=_masked)
    trigger_source: str = attrs.field(repr=_masked)
    applied: bool = False
    answered: int | None = None
    fault: str | None = None

    @property
    def dialled(self) -> bool:
        """Whether a phone rang for it."""
        return self.applied and self.action in DIALLING

    def as_json(self) -> dict[str, Any]:
        """Give every field by its name."""
        return attrs.asdict(self)


class Ledger:
    """Every request and every dial, in order of arrival.

    Args:
        keep_requests: Keep a record of each; without, only what the counts need is
            kept, and `requests` and `dialled` stay empty.

    Attributes:
        requests: All requests that were read, the newest last.
        received: Their number, kept or not.
        dialled_total: Number of dials, kept or not.
        refused_429: Requests answered 429, for whatever reason.
        struck: How often each fault has struck each action.
    """

    def __init__(self, *, keep_requests: bool = True) -> None:
        self.requests: list[Record] = []
        self.received = 0
        self.dialled_total = 0
        self.refused_429 = 0
        self.struck: Counter[tuple[str, str]] = Counter()
        self._keep_requests = keep_requests
        self._times = array("d")
        self._applied: dict[_Deed, int] = {}
        self._dials: dict[str, int] = {}

    def __repr__(self) -> str:
        """Say the totals."""
        return (
            f"<Ledger received={self.received} dialled={self.dialled_total} "
            f"refused_429={self.refused_429}>"
        )

    def open(self, asked: Asked, *, at: float, account: str) -> Record:
        """Enter a request that has just been read."""
        record = Record(
            at=at,
            account=account,
            action=asked.action,
            phlo_id=asked.phlo_id,
            node_id=asked.node_id,
            to=asked.to,
            member=asked.member,
            trigger_source=asked.trigger_source,
        )
        self.received += 1
        if self._keep_requests:
            self.requests.append(record)
        return record

    def apply(self, record: Record) -> None:
        """Note that the request takes effect."""
        record.applied = True
        deed = _deed(record.action, record)
        self._applied[deed] = self._applied.get(deed, 0) + 1
        if record.action in DIALLING:
            self.dialled_total += 1
            self._dials[record.to] = self._dials.get(record.to, 0) + 1

    def admit(self, at: float) -> None:
        """Note that a request was within the account's quota."""
        self._times.append(at)

    def strike(self, record: Record, fault: str) -> None:
        """Note that something goes wrong with a request on purpose."""
        record.fault = fault
        self.struck[fault, record.action] += 1

    def answer(self, record: Record, status: int | None) -> None:
        """Note what was answered: `status` is None unless it was written whole."""
        record.answered = status
        if status == _TOO_MANY_REQUESTS:
            self.refused_429 += 1

    @property
    def dialled(self) -> list[Record]:
        """The requests that made a phone ring, the newest last."""
        return [record for record in list(self.requests) if record.dialled]

    def dials(self, to: str | None = None) -> int:
        """Count how often `to` was dialled, or all dials.

        Args:
            to: Address, spelt as in the request.
        """
        return self.dialled_total if to is None else self._dials.get(to, 0)

    def applied(self, action: str, address: str = "") -> int:
        """Count how often an action took effect on an address, over all nodes.

        Args:
            action: As `Record.action`.
            address: `to` or member, spelt as in the request.
        """
        deeds = self._applied.copy()
        return sum(
            count
            for (word, _, _, whom), count in deeds.items()
            if (word, whom) == (action, address)
        )

    def rung_twice(self) -> dict[str, int]:
        """Give the addresses dialled more than once, with how often."""
        dials = self._dials.copy()  # one step, so other threads may ask too
        return {to: count for to, count in dials.items() if count > 1 and to}

    def rate_per_second(self) -> float:
        """Give the mean rate of requests within the quota, from arrival times."""
        if len(self._times) < 2:  # noqa: PLR2004 -- two posts make the first interval
            return 0.0
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0

    def disagreements(self, outcomes: Iterable[JudgedOutcome]) -> list[str]:
        """Hold outcomes against what happened.

        Args:
            outcomes: All of them, one for each action that was sent here.

        Returns:
            A sentence for each action that was called not sent or rejected and took
            effect, was called accepted and took none, or whose effects outnumber what
            the outcomes can explain. Of the requests, reads are left out, and a
            repeated hold or the like is explained by any outcome but these two.
        """
        told: dict[_Deed, Counter[str]] = {}
        for outcome in outcomes:
            action = _WORDS[type(outcome.action).__name__]
            if action not in READING:
                verdicts = told.setdefault(_deed(action, outcome.action), Counter())
                verdicts[_verdict(outcome)] += 1
        applied = self._applied.copy()
        deeds = [*told, *(deed for deed in applied if deed not in told)]
        return [
            f"{deed[0]} {mask(deed[3])}: {fault}"
            for deed in deeds
            for fault in _judge(deed[0], applied.get(deed, 0), told.get(deed))
        ]

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Give all records as JSON-able objects, under `requests` and `dials`."""
        return {
            "requests": [record.as_json() for record in self.requests],
            "dials": [
                {
                    "to": record.to,
                    "action": record.action,
                    "account": record.account,
                    "at": record.at,
                    "answered": record.answered,
                }
                for record in self.dialled
            ],
        }


def _deed(action: str, where: Any) -> _Deed:  # noqa: ANN401 -- a record or anybody's action
    """Tell apart what can be told apart by both sides: a run isn't told by address."""
    address = ""
    if action != "run_phlo":
        address = getattr(where, "to", "") or getattr(where, "member", "")
    return action, where.phlo_id, getattr(where, "node_id", ""), address


def _verdict(outcome: JudgedOutcome) -> str:
    """Name the verdict; one that joined another's request adds none of its own."""
    return "joined" if getattr(outcome, "joined", False) else outcome.verdict


def _judge(action: str, applied: int, told: Counter[str] | None) -> Iterable[str]:
    """Compare how often an action took effect with what was said about it."""
    if told is None:
        yield f"took effect {applied} times, and no outcome tells of it"
        return
    accepted, in_doubt = told["accepted"], told["in_doubt"]
    refused = told["rejected"] + told["not_sent"]
    explained = accepted + in_doubt or min(told["joined"], 1)
    if applied < (accepted if action in _ONCE else min(accepted, 1)):
        yield f"accepted {accepted} times, took effect {applied} times"
    if applied > explained and (action in _ONCE or not explained):
        yield (
            f"took effect {applied} times, which {accepted} accepted and {in_doubt} in "
            f"doubt can't explain ({refused} were called rejected or not sent)"
        )
