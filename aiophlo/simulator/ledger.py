"""The ledger: every request and every dial, to check a client's verdicts against."""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import attrs

from aiophlo.simulator.answer_meaning import Meaning
from aiophlo.simulator.api import DIALLING, Asked
from aiophlo.simulator.audit import Counts, JudgedOutcome, Told, judge

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
_TOO_MANY_REQUESTS: Final = 429
_OF_A_DIAL: Final = ("to", "action", "account", "at", "answered")

_Deed = tuple[str, str, str, str]  # action, PHLO, node, address
_Party = tuple[str, str, str]  # PHLO, node, the member or agent who acts


def mask(address: str) -> str:
    """Return of an address what tells two apart in a report."""
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
        counts: What became of this and all other requests for the same.
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
    counts: Counts = attrs.field(factory=Counts, repr=False)

    @property
    def dialled(self) -> bool:
        """Whether a phone rang for it."""
        return self.applied and self.action in DIALLING

    def as_json(self) -> dict[str, Any]:
        """Give every field but the counts by its name."""
        return attrs.asdict(self, filter=attrs.filters.exclude("counts"))


@attrs.define
class Post:
    """One event that was posted.

    Attributes:
        fields: What it said.
        status: HTTP status of the answer; None if there was none.
        error: Why there was none, by the name of aiohttp's exception; else None.
    """

    fields: dict[str, str] = attrs.field(repr=False)
    status: int | None = None
    error: str | None = None


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
        posts: Events that were posted, and what came of each, the newest last.
    """

    def __init__(self, *, keep_requests: bool = True) -> None:
        self.requests: list[Record] = []
        self.posts: list[Post] = []
        self.received = 0
        self.dialled_total = 0
        self.refused_429 = 0
        self.struck: Counter[tuple[str, str]] = Counter()
        self._keep_requests = keep_requests
        self._times = array("d")
        self._counts: dict[_Deed, Counts] = {}
        self._last_words: dict[_Party, str] = {}
        self._dials: dict[str, int] = {}

    def __repr__(self) -> str:
        """Say the totals."""
        return (
            f"<Ledger received={self.received} dialled={self.dialled_total} "
            f"refused_429={self.refused_429}>"
        )

    def clear(self) -> None:
        """Forget everything."""
        self.requests.clear()
        self.posts.clear()
        self.received = self.dialled_total = self.refused_429 = 0
        self.struck.clear()
        del self._times[:]
        self._counts.clear()
        self._last_words.clear()
        self._dials.clear()

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
        self._count(record)
        if self._keep_requests:
            self.requests.append(record)
        return record

    def apply(self, record: Record) -> None:
        """Note that the request takes effect."""
        record.applied = True
        record.counts.applied += 1
        if record.action in DIALLING:
            self.dialled_total += 1
            self._dials[record.to] = self._dials.get(record.to, 0) + 1

    def admit(self, at: float) -> None:
        """Note that a request was within the account's quota."""
        self._times.append(at)

    def note_fault(self, record: Record, fault: str) -> None:
        """Record the fault that a request meets."""
        record.fault = fault
        record.counts.faults += (fault,)
        self.struck[fault, record.action] += 1

    def answer(self, record: Record, status: int | None, meaning: Meaning) -> None:
        """Note what was answered.

        Args:
            record: The request.
            status: None unless the answer was written whole.
            meaning: What a client that reads it all can know.
        """
        record.answered = status
        record.counts.answered(meaning)
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
        deeds = self._counts.copy()  # one step, so other threads may ask too
        return sum(
            counts.applied
            for (word, _, _, whom), counts in deeds.items()
            if (word, whom) == (action, address)
        )

    def faults_of(self, action: object) -> tuple[str, ...]:
        """Give what went wrong on purpose with the requests for an action, in order.

        Args:
            action: Named by its class, with phlo_id, node_id and to or member.
        """
        counts = self._counts.get(_deed(_WORDS[type(action).__name__], action))
        return counts.faults if counts else ()

    def rung_twice(self) -> dict[str, int]:
        """Give the addresses dialled more than once, with how often."""
        dials = self._dials.copy()
        return {to: count for to, count in dials.items() if count > 1 and to}

    def rate_per_second(self) -> float:
        """Give the mean rate of requests within the quota, from arrival times."""
        if len(self._times) < 2:  # noqa: PLR2004 -- two posts make the first interval
            return 0.0
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0

    def disagreements(self, outcomes: Iterable[JudgedOutcome]) -> list[str]:
        """Compare outcomes with what happened.

        Outcomes of the same action on the same address of a node are judged together.
        A mistake in one can hide behind another's: give targets of their own to
        actions that are to be told apart.

        Args:
            outcomes: All of them, one for each action that was sent here.

        Returns:
            A sentence for each thing that can't be so. That is a verdict without the
            answer it needs (accepted without a yes, rejected without a no, in doubt
            over an answer that was clear); requests or effects that the verdicts don't
            explain; an action that rings or is heard sent again though its end was
            unclear; another one sent again after a newer word to the same member.
            Reads are held against their answers alone. An answer that the client says
            it never saw may have been lost on the way.
        """
        told = _gather(outcomes)
        counts = self._counts.copy()
        deeds = [*told, *(deed for deed in counts if deed not in told)]
        return _judge(deeds, counts, told)

    def settle(self, outcomes: Collection[JudgedOutcome]) -> list[str]:
        """Do as `disagreements` for these outcomes alone, and forget what they tell of.

        For runs too long to keep everything. A request that comes after it was settled
        has no outcome, and so is found by the next call of `disagreements`.

        Args:
            outcomes: All of those that tell of the same deeds.
        """
        told = _gather(outcomes)
        found = _judge(told, self._counts, told)
        for deed in told:
            self._counts.pop(deed, None)
        for outcome in outcomes:
            self._last_words.pop(_party(outcome.action), None)
        return found

    def _count(self, record: Record) -> None:
        """Count a request, and whether it repeats an action after a newer one."""
        counts = self._counts.setdefault(_deed(record.action, record), record.counts)
        record.counts = counts
        party = (record.phlo_id, record.node_id, record.trigger_source or record.member)
        last = self._last_words.get(party, record.action)
        if last != record.action and counts.unclear:
            counts.superseded += 1
        self._last_words[party] = record.action
        counts.received += 1

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Give all records as JSON-able objects, under `requests` and `dials`."""
        return {
            "requests": [record.as_json() for record in self.requests],
            "dials": [
                {name: getattr(record, name) for name in _OF_A_DIAL}
                for record in self.dialled
            ],
        }


def _deed(action: str, where: Any) -> _Deed:  # noqa: ANN401 -- a record or anybody's action
    """Return the key of a deed: what both sides know of it, so no address of a run."""
    address = ""
    if action != "run_phlo":
        address = getattr(where, "to", "") or getattr(where, "member", "")
    return action, where.phlo_id, getattr(where, "node_id", ""), address


def _party(where: Any) -> _Party:  # noqa: ANN401 -- a record or anybody's action
    who = getattr(where, "trigger_source", "") or getattr(where, "member", "")
    return where.phlo_id, getattr(where, "node_id", ""), who


def _gather(outcomes: Iterable[JudgedOutcome]) -> dict[_Deed, Told]:
    told: dict[_Deed, Told] = {}
    for outcome in outcomes:
        action = outcome.action
        deed = _deed(_WORDS[type(action).__name__], action)
        if deed not in told:
            told[deed] = Told()
        told[deed].add(outcome)
    return told


def _judge(
    deeds: Iterable[_Deed], counts: Mapping[_Deed, Counts], told: Mapping[_Deed, Told]
) -> list[str]:
    return [
        f"{deed[0]} {mask(deed[3])}: {fault}"
        for deed in deeds
        for fault in judge(deed[0], counts.get(deed) or Counts(), told.get(deed))
    ]
