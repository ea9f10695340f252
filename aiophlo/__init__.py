"""Warm transfers on Plivo's PHLO for asyncio services."""

from importlib import import_module
from typing import TYPE_CHECKING

from aiophlo._version import __version__
from aiophlo.accounts import Account, Quota
from aiophlo.actions import (
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
    Parameters,
    ResumeCall,
    Role,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.addresses import mask, mask_text, parse_address
from aiophlo.errors import (
    CredentialsError,
    CustomerLeftError,
    CustomerOnHoldError,
    HandoverError,
    InDoubtError,
    InvalidAddressError,
    InvalidInputError,
    JournalError,
    NobodyAnsweredError,
    NotFoundError,
    NotSentError,
    PartnerLeftError,
    PhloError,
    RejectedError,
    VerdictError,
)
from aiophlo.nodes import BridgeMember, ConferenceBridge, Member, MultiPartyCall, Phlo
from aiophlo.observing import ActionEnded, AttemptEnded, Observer
from aiophlo.outcomes import (
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Reason,
    Rejected,
    accepted_or_raise,
)
from aiophlo.pool import SessionPool
from aiophlo.retrying import RetryPolicy
from aiophlo.sending import AccountState

if TYPE_CHECKING:
    from aiophlo.batch import BatchReport, Stream
    from aiophlo.handover.consult import Accept, Consult
    from aiophlo.handover.recovery import Recovered, Recovery
    from aiophlo.handover.table import OpenHandover
    from aiophlo.handover.tries import Ending, Tried
    from aiophlo.journal import Journal
    from aiophlo.routing import EventRouter

# What most programs never touch is loaded when it is first asked for.
_LATER = {
    "Accept": "aiophlo.handover.consult",
    "BatchReport": "aiophlo.batch",
    "Consult": "aiophlo.handover.consult",
    "Ending": "aiophlo.handover.tries",
    "EventRouter": "aiophlo.routing",
    "Journal": "aiophlo.journal",
    "OpenHandover": "aiophlo.handover.table",
    "Recovered": "aiophlo.handover.recovery",
    "Recovery": "aiophlo.handover.recovery",
    "Stream": "aiophlo.batch",
    "Tried": "aiophlo.handover.tries",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


__all__ = [
    "AbortTransfer",
    "Accept",
    "Accepted",
    "Account",
    "AccountState",
    "Action",
    "ActionEnded",
    "AddUser",
    "AttemptEnded",
    "BatchReport",
    "BridgeLeave",
    "BridgeMember",
    "BridgeMute",
    "BridgeUnmute",
    "ColdTransfer",
    "ConferenceBridge",
    "Consult",
    "CredentialsError",
    "CustomerLeftError",
    "CustomerOnHoldError",
    "Ending",
    "EventRouter",
    "GetNode",
    "GetPhlo",
    "HandoverError",
    "Hangup",
    "Hold",
    "InDoubt",
    "InDoubtError",
    "InvalidAddressError",
    "InvalidInputError",
    "Journal",
    "JournalError",
    "Lane",
    "Member",
    "MultiPartyCall",
    "Mute",
    "NobodyAnsweredError",
    "NotFoundError",
    "NotSent",
    "NotSentError",
    "Observer",
    "OpenHandover",
    "Outcome",
    "Parameters",
    "PartnerLeftError",
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
    "SessionPool",
    "Stream",
    "Tried",
    "Unhold",
    "Unmute",
    "VerdictError",
    "VoicemailDrop",
    "WarmTransfer",
    "__version__",
    "accepted_or_raise",
    "mask",
    "mask_text",
    "parse_address",
]
