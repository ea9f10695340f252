"""What `import aiophlo` gives, and what it costs."""

import os
import subprocess
import sys
from types import FunctionType

import pytest

import aiophlo

NAMES = [
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


def test_public_names_are_these() -> None:
    """A name that vanishes breaks every service that imports it."""
    assert sorted(aiophlo.__all__) == sorted(NAMES)


def test_every_public_name_is_there_and_explained() -> None:
    """A name without a word on it is no use to anybody."""
    for name in aiophlo.__all__:
        thing = getattr(aiophlo, name)
        if isinstance(thing, type | FunctionType):
            assert thing.__doc__, name


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        pytest.param(
            "Account, PhloError, SessionPool, WarmTransfer",
            (
                "aiohttp.web",
                "aiophlo.cli",
                "aiophlo.batch.stream",
                "aiophlo.webhooks.events",
                "aiophlo.handover",
                "aiophlo.looking",
                "aiophlo.journal.journal",
                "aiophlo.pytest_plugin",
                "aiophlo.simulator",
                "rich",
                "sqlite3",
                "tenacity",
                "typer",
            ),
            id="the pool loads no optional part",
        ),
        pytest.param(
            "Account, PhloError, WarmTransfer, webhooks",
            ("aiohttp", "aiophlo.pool", "aiophlo.protocol", "aiophlo.sending"),
            id="webhooks load no client",
        ),
    ],
)
def test_import_leaves_the_others_alone(names: str, modules: tuple[str, ...]) -> None:
    """A voice agent's cold start must not pay for a command line or a server."""
    code = f"import sys; from aiophlo import {names}; print(*sys.modules)"
    bare = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    loaded = subprocess.check_output(  # noqa: S603 -- this very interpreter, fixed code
        [sys.executable, "-c", code],
        text=True,
        env=bare,  # counting coverage would load sqlite3 itself
    )
    assert "aiophlo.errors" in loaded.split()
    assert set(modules).isdisjoint(loaded.split())


def test_journal_leaves_the_handover_alone() -> None:
    """A batch's memory must not cost what only live calls need."""
    code = (
        "import sys, aiophlo.journal.journal;"
        "print(*sorted(m for m in sys.modules if m.startswith('aiophlo.handover')))"
    )
    done = subprocess.run(  # noqa: S603 -- this very interpreter, fixed code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
