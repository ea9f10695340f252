"""What was seen of a day: all that the judge is told."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import attrs

ACCEPTED: Final = "accepted"
ALIKE: Final = {  # the error that the service names, and what it says of a phone
    "NotSentError": "not_sent",
    "EngagedError": "not_sent",
    "InvalidInputError": "not_sent",
    "InvalidAddressError": "not_sent",
    "RejectedError": "rejected",
    "CredentialsError": "rejected",
    "NotFoundError": "rejected",
    "InDoubtError": "in_doubt",
    "NobodyAnsweredError": "rung",
    "PartnerLeftError": "rung",
    "CustomerLeftError": "rung",
    "TakenOverError": "in_doubt",
    "CustomerOnHoldError": "in_doubt",
}


class Kind(StrEnum):
    """What can be marked on the day's timeline."""

    AGENTS = "agents"
    CAMPAIGN = "campaign"
    DEPLOY = "deploy"
    KILL = "kill"
    CAMPAIGN_KILL = "campaign_kill"
    DATABASE = "database"
    FAILING = "failing"
    SILENT = "silent"
    FOREIGN = "foreign"


PLIVO_FAILS: Final = frozenset({Kind.FAILING, Kind.SILENT})
OUTAGES: Final = PLIVO_FAILS | {Kind.DATABASE}


@attrs.frozen
class Mark:
    """Something that was done to the call centre.

    All times are seconds since the day began.

    Attributes:
        kind: What.
        begin: When.
        end: When it was over.
        host: Which of the hosts, if it was one.
    """

    kind: Kind = attrs.field(converter=Kind)
    begin: float
    end: float
    host: str = ""


@attrs.frozen
class Asked:
    """One request of an agent's to the service.

    Attributes:
        at: When it was asked.
        until: When it was answered, or given up.
        what: transfers or handovers.
        click: Which click it belongs to; both requests of a double click have one.
        call: Number of the call.
        agent: Who asked.
        partners: Whom they would have rung.
        host: Which host got it.
        status: HTTP status; None if there was no answer.
        error: The error's name in the answer; else how the connection ended.
    """

    at: float
    until: float
    what: str
    click: int
    call: int
    agent: str
    partners: tuple[str, ...]
    host: str
    status: int | None = None
    error: str = ""

    @property
    def verdict(self) -> str:
        """What the answer says; empty if it says nothing that means something."""
        if self.status == 200:  # noqa: PLR2004 -- HTTP's
            return ACCEPTED
        return ALIKE.get(self.error, "") if self.status else ""

    @property
    def seconds(self) -> float:
        """How long they waited."""
        return self.until - self.at


@attrs.frozen
class Dial:
    """A phone that rang.

    Attributes:
        at: When.
        to: Whose.
    """

    at: float
    to: str


@attrs.frozen
class Conversation:
    """A customer's call.

    Attributes:
        number: Its number.
        agent: Whose.
        begin: When it began.
        end: When everybody had hung up.
    """

    number: int
    agent: str
    begin: float
    end: float


@attrs.frozen
class Hold:
    """A customer who heard music, or nobody.

    Attributes:
        call: Number of the call.
        since: Since when.
        until: Until when.
    """

    call: int
    since: float
    until: float


@attrs.frozen
class Alarm:
    """A CRITICAL record of the service's.

    Attributes:
        at: When.
        agent: The agent that it names, masked: two digits.
        began_at: When the handover began.
        handover: Its id.
        host: Who raised it.
    """

    at: float
    agent: str
    began_at: float
    handover: str = ""
    host: str = ""


@attrs.frozen
class Row:
    """A row of the campaign's.

    Attributes:
        to: Whom it rings.
        verdict: What came of it; empty if nothing is known.
    """

    to: str
    verdict: str


@attrs.define
class Evidence:
    """Everything that was seen.

    Attributes:
        minutes: How long the day was.
        seed: Of its chance.
        hosts: Names of the hosts.
        notes: What a reader has to know of how it was run.
        marks: What was done to the call centre.
        asked: What agents asked for.
        dials: Phones that rang, apart from what strangers rang.
        refusals: When one of our requests was answered 429.
        foreign_refusals: How many of the strangers' were.
        requests: When Plivo was sent ours.
        conversations: All calls.
        holds: When a customer heard music, or nobody.
        alarms: Alarms of the service's.
        taken_over: When which handover was taken over from a process that died.
        away: From when to when a worker said that the database was away.
        waited: When an awaited transfer ended, and how long it waited for its slot.
        campaign: Rows of the campaign.
        webhooks: How many of how many events reached a worker.
        faults: Records that say that something is wrong in the library itself.
        lag: How late the day's own clock was, in the worst hundredth: the machine's.
    """

    minutes: float = 0.0
    seed: int = 0
    hosts: list[str] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    marks: list[Mark] = attrs.field(factory=list)
    asked: list[Asked] = attrs.field(factory=list)
    dials: list[Dial] = attrs.field(factory=list)
    refusals: list[float] = attrs.field(factory=list)
    foreign_refusals: int = 0
    requests: list[float] = attrs.field(factory=list)
    conversations: list[Conversation] = attrs.field(factory=list)
    holds: list[Hold] = attrs.field(factory=list)
    alarms: list[Alarm] = attrs.field(factory=list)
    taken_over: dict[str, float] = attrs.field(factory=dict)
    away: list[tuple[float, float]] = attrs.field(factory=list)
    waited: list[tuple[float, float]] = attrs.field(factory=list)
    campaign: list[Row] = attrs.field(factory=list)
    webhooks: tuple[int, int] = (0, 0)
    faults: list[str] = attrs.field(factory=list)
    lag: float = 0.0

    def spans(self, *kinds: Kind) -> list[tuple[float, float]]:
        """Return from when to when these were."""
        return [(mark.begin, mark.end) for mark in self.marks if mark.kind in kinds]

    def write(self, path: Path) -> None:
        """Keep it, to be judged anew."""
        path.write_text(json.dumps(attrs.asdict(self)), "utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what was kept."""
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        for one in kept["asked"]:
            one["partners"] = tuple(one["partners"])
        for name, kind in _KINDS.items():
            kept[name] = [kind(**one) for one in kept[name]]
        for name in ("away", "waited"):
            kept[name] = [(one, other) for one, other in kept[name]]
        kept["webhooks"] = tuple(kept["webhooks"])
        return cls(**kept)


_KINDS: Final[dict[str, Any]] = {
    "marks": Mark,
    "asked": Asked,
    "dials": Dial,
    "conversations": Conversation,
    "holds": Hold,
    "alarms": Alarm,
    "campaign": Row,
}


def within(at: float, spans: list[tuple[float, float]], after: float = 0.0) -> bool:
    """Say whether a moment is in one of some spans, or so soon after it."""
    return any(begin <= at <= end + after for begin, end in spans)


def overlap(
    begin: float, end: float, spans: list[tuple[float, float]], after: float = 0.0
) -> bool:
    """Say whether a span meets one of some spans, or what is so soon after it."""
    return any(begin <= last + after and first <= end for first, last in spans)
