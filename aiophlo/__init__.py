"""Warm transfers on Plivo's PHLO for asyncio services."""

from importlib import import_module
from typing import TYPE_CHECKING

from aiophlo._version import __version__
from aiophlo.errors import (
    CredentialsError,
    CustomerLeftError,
    CustomerOnHoldError,
    EngagedError,
    HandoverError,
    InDoubtError,
    InvalidAddressError,
    InvalidInputError,
    JournalError,
    JournalInUseError,
    NobodyAnsweredError,
    NotFoundError,
    NotSentError,
    PartnerLeftError,
    PhloError,
    RejectedError,
    TakenOverError,
    VerdictError,
    accepted_or_raise,
)
from aiophlo.model.accounts import Account, Quota
from aiophlo.model.actions import (
    AbortTransfer,
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
    Lane,
    Mute,
    ResumeCall,
    Role,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.model.addresses import parse_address
from aiophlo.model.outcomes import Accepted, InDoubt, NotSent, Outcome, Reason, Rejected
from aiophlo.model.parameters import Parameters
from aiophlo.model.redaction import mask, mask_text

if TYPE_CHECKING:
    from aiophlo.batch.stream import BatchReport, Stream
    from aiophlo.draining import drain_on_signal
    from aiophlo.handles import (
        BridgeMember,
        ConferenceBridge,
        Member,
        MultiPartyCall,
        Phlo,
        SendOptions,
    )
    from aiophlo.handover.consult import Accept, Consult
    from aiophlo.handover.event_router import EventRouter
    from aiophlo.handover.options import ConsultOptions
    from aiophlo.handover.recovery import Recovered, Recovery
    from aiophlo.handover.watch import Party
    from aiophlo.journal.journal import (
        Journal,
        JournalReader,
        JournalRecord,
        JournalReport,
    )
    from aiophlo.journal.shared import SharedJournal
    from aiophlo.model.handover_records import Ending, OpenHandover, Tried
    from aiophlo.model.sightings import CallState, Sighting
    from aiophlo.observed_events import (
        ActionBegun,
        ActionEnded,
        ActionJoined,
        AttemptBegun,
        AttemptEnded,
        HandoverEnded,
        HandoverStep,
        JournalCommitted,
        ObservedEvent,
        Observer,
        WebhookReceived,
        WebhookResult,
    )
    from aiophlo.pool import SessionPool
    from aiophlo.sending.retry import RetryPolicy
    from aiophlo.sending.sender import AccountState

# Loaded when it is first asked for: with the pool comes aiohttp, which nobody needs
# who only receives webhooks; the others are what most programs never touch.
_LATER = {
    "Accept": "aiophlo.handover.consult",
    "AccountState": "aiophlo.sending.sender",
    "ActionBegun": "aiophlo.observed_events",
    "ActionEnded": "aiophlo.observed_events",
    "ActionJoined": "aiophlo.observed_events",
    "AttemptBegun": "aiophlo.observed_events",
    "AttemptEnded": "aiophlo.observed_events",
    "BatchReport": "aiophlo.batch.stream",
    "BridgeMember": "aiophlo.handles",
    "CallState": "aiophlo.model.sightings",
    "ConferenceBridge": "aiophlo.handles",
    "Consult": "aiophlo.handover.consult",
    "ConsultOptions": "aiophlo.handover.options",
    "Ending": "aiophlo.model.handover_records",
    "EventRouter": "aiophlo.handover.event_router",
    "HandoverEnded": "aiophlo.observed_events",
    "HandoverStep": "aiophlo.observed_events",
    "Journal": "aiophlo.journal.journal",
    "JournalCommitted": "aiophlo.observed_events",
    "JournalReader": "aiophlo.journal.journal",
    "JournalRecord": "aiophlo.journal.journal",
    "JournalReport": "aiophlo.journal.journal",
    "Member": "aiophlo.handles",
    "MultiPartyCall": "aiophlo.handles",
    "ObservedEvent": "aiophlo.observed_events",
    "Observer": "aiophlo.observed_events",
    "OpenHandover": "aiophlo.model.handover_records",
    "Party": "aiophlo.handover.watch",
    "Phlo": "aiophlo.handles",
    "Recovered": "aiophlo.handover.recovery",
    "Recovery": "aiophlo.handover.recovery",
    "RetryPolicy": "aiophlo.sending.retry",
    "SendOptions": "aiophlo.handles",
    "SessionPool": "aiophlo.pool",
    "SharedJournal": "aiophlo.journal.shared",
    "Sighting": "aiophlo.model.sightings",
    "Stream": "aiophlo.batch.stream",
    "Tried": "aiophlo.model.handover_records",
    "WebhookReceived": "aiophlo.observed_events",
    "WebhookResult": "aiophlo.observed_events",
    "drain_on_signal": "aiophlo.draining",
}
_ANNOTATED = {"coordination", "webhooks"}  # annotations name what is in these modules

# What a handover needs is loaded with its router, when a service starts: by the first
# handover, no file might be opened any more.
_BESIDES = {"EventRouter": ("aiophlo.handover.consult", "aiophlo.handover.recovery")}


def __getattr__(name: str) -> object:
    if name in _ANNOTATED:
        return import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in _BESIDES.get(name, ()):
        import_module(module)
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "AbortTransfer",
    "Accept",
    "Accepted",
    "Account",
    "AccountState",
    "Action",
    "ActionBegun",
    "ActionEnded",
    "ActionJoined",
    "AddUser",
    "AttemptBegun",
    "AttemptEnded",
    "BatchReport",
    "BridgeLeave",
    "BridgeMember",
    "BridgeMute",
    "BridgeUnmute",
    "CallState",
    "ColdTransfer",
    "ConferenceBridge",
    "Consult",
    "ConsultOptions",
    "CredentialsError",
    "CustomerLeftError",
    "CustomerOnHoldError",
    "Ending",
    "EngagedError",
    "EventRouter",
    "GetNode",
    "GetPhlo",
    "HandoverEnded",
    "HandoverError",
    "HandoverStep",
    "Hangup",
    "Hold",
    "InDoubt",
    "InDoubtError",
    "InvalidAddressError",
    "InvalidInputError",
    "Journal",
    "JournalCommitted",
    "JournalError",
    "JournalInUseError",
    "JournalReader",
    "JournalRecord",
    "JournalReport",
    "Lane",
    "Member",
    "MultiPartyCall",
    "Mute",
    "NobodyAnsweredError",
    "NotFoundError",
    "NotSent",
    "NotSentError",
    "ObservedEvent",
    "Observer",
    "OpenHandover",
    "Outcome",
    "Parameters",
    "PartnerLeftError",
    "Party",
    "Phlo",
    "PhloError",
    "Quota",
    "Reason",
    "Recovered",
    "Recovery",
    "Rejected",
    "RejectedError",
    "ResumeCall",
    "RetryPolicy",
    "Role",
    "RunPhlo",
    "SendOptions",
    "SessionPool",
    "SharedJournal",
    "Sighting",
    "Stream",
    "TakenOverError",
    "Tried",
    "Unhold",
    "Unmute",
    "VerdictError",
    "VoicemailDrop",
    "WarmTransfer",
    "WebhookReceived",
    "WebhookResult",
    "__version__",
    "accepted_or_raise",
    "drain_on_signal",
    "mask",
    "mask_text",
    "parse_address",
]
