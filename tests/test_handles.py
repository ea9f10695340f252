"""Handles: each method sends exactly its action, for the right account."""

from collections.abc import Callable, Coroutine
from typing import Any, Unpack

import attrs
import pytest

from aiophlo.errors import InvalidAddressError, InvalidInputError
from aiophlo.handles import Phlo, SendOptions
from aiophlo.model.accounts import Account
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
    Mute,
    ResumeCall,
    Role,
    RunPhlo,
    Unhold,
    Unmute,
    VoicemailDrop,
    WarmTransfer,
)
from aiophlo.model.outcomes import Accepted

AGENT, CALLEE = "+14155550100", "+14155550199"
TOKEN = "CanaryTokenCanaryTokenCanaryToken1234567"  # noqa: S105 -- made up, to be missed
ACCOUNT = Account("MACANARYCANARYCANARY", TOKEN)
NODE: dict[str, Any] = {"phlo_id": "p", "node_id": "n"}
MEMBER = NODE | {"member": AGENT}
TO: dict[str, Any] = {"to": CALLEE, "trigger_source": AGENT}
OPTIONS: SendOptions = {"send_within": 1.5, "on_duplicate": "send"}

Call = Callable[..., Coroutine[Any, Any, Accepted]]


@attrs.define
class Recorder:
    """Takes the place of a pool, and notes what it is asked to send."""

    sent: list[tuple[Action, Account | str | None, SendOptions]] = attrs.field(
        factory=list
    )

    async def send(
        self,
        action: Action,
        *,
        account: Account | str | None = None,
        **options: Unpack[SendOptions],
    ) -> Accepted:
        """Note it, and say yes."""
        self.sent.append((action, account, options))
        return Accepted(action=action, api_id=str(len(self.sent)))


@pytest.fixture
def pool() -> Recorder:
    """Give a pool that only notes."""
    return Recorder()


def call(phlo: Phlo, path: str) -> Call:
    """Return the method that `path` names."""
    where, _, method = path.rpartition(".")
    node, bridge = phlo.multi_party_call("n"), phlo.conference_bridge("n")
    handle = {
        "phlo": phlo,
        "node": node,
        "node.member": node.member(AGENT),
        "bridge": bridge,
        "bridge.member": bridge.member(AGENT),
    }[where]
    found: Call = getattr(handle, method)
    return found


SENDS: dict[str, tuple[dict[str, Any], Action]] = {
    "phlo.run": ({}, RunPhlo(phlo_id="p")),
    "node.warm_transfer": (TO, WarmTransfer(**NODE, **TO)),
    "node.cold_transfer": (TO, ColdTransfer(**NODE, **TO)),
    "node.add_user": (TO, AddUser(**NODE, **TO)),
    "node.member.abort_transfer": ({}, AbortTransfer(**MEMBER)),
    "node.member.resume_call": ({}, ResumeCall(**MEMBER)),
    "node.member.voicemail_drop": ({}, VoicemailDrop(**MEMBER)),
    "node.member.hangup": ({}, Hangup(**MEMBER)),
    "node.member.hold": ({}, Hold(**MEMBER)),
    "node.member.unhold": ({}, Unhold(**MEMBER)),
    "node.member.mute": ({}, Mute(**MEMBER)),
    "node.member.unmute": ({}, Unmute(**MEMBER)),
    "bridge.member.mute": ({}, BridgeMute(**MEMBER)),
    "bridge.member.unmute": ({}, BridgeUnmute(**MEMBER)),
    "bridge.member.leave": ({}, BridgeLeave(**MEMBER)),
}
ASKS: dict[str, Action] = {
    "phlo.describe": GetPhlo(phlo_id="p"),
    "node.describe": GetNode(**NODE, node_type="multi_party_call"),
    "bridge.describe": GetNode(**NODE, node_type="conference_bridge"),
}


@pytest.mark.parametrize("path", SENDS)
async def test_method_sends_its_action(path: str, pool: Recorder) -> None:
    """A hold that hangs up ends somebody's call."""
    given, action = SENDS[path]
    accepted = await call(Phlo(pool, "p"), path)(**given)
    assert pool.sent == [(action, None, {})]
    assert type(pool.sent[0][0]) is type(action)
    assert accepted.action == action


@pytest.mark.parametrize("path", SENDS)
async def test_key_account_and_options_reach_the_pool(
    path: str, pool: Recorder
) -> None:
    """A deadline or an account that is dropped on the way is a wrong call."""
    given, action = SENDS[path]
    await call(Phlo(pool, "p", ACCOUNT), path)(**given, key="row 7", **OPTIONS)
    assert pool.sent == [(action, ACCOUNT, OPTIONS)]
    assert pool.sent[0][0].key == "row 7"


@pytest.mark.parametrize("path", ASKS)
async def test_describe_asks_and_changes_nothing(path: str, pool: Recorder) -> None:
    """A check of the set-up must ring nobody."""
    await call(Phlo(pool, "p", "MACANARYCANARYCANARY"), path)(**OPTIONS)
    assert pool.sent == [(ASKS[path], "MACANARYCANARYCANARY", OPTIONS)]


def test_table_knows_every_method(pool: Recorder) -> None:
    """A method that nobody tried may send anything."""
    phlo = Phlo(pool, "p")
    node, bridge = phlo.multi_party_call("n"), phlo.conference_bridge("n")
    handles = {
        "phlo": phlo,
        "node": node,
        "node.member": node.member(AGENT),
        "bridge": bridge,
        "bridge.member": bridge.member(AGENT),
    }
    no_io = {"multi_party_call", "conference_bridge", "member"}
    methods = {
        f"{where}.{name}"
        for where, handle in handles.items()
        for name in dir(handle)
        if not name.startswith("_") and callable(getattr(handle, name))
    }
    known = {path for path in methods if path.rpartition(".")[2] not in no_io}
    assert known == set(SENDS) | set(ASKS)


@pytest.mark.parametrize("method", ["warm_transfer", "cold_transfer", "add_user"])
@pytest.mark.parametrize("role", [Role.CUSTOMER, "customer"], ids=["enum", "text"])
async def test_role_is_passed_on(method: str, role: str, pool: Recorder) -> None:
    """A customer dialled as an agent hears what only agents should."""
    await call(Phlo(pool, "p"), f"node.{method}")(**TO, role=role)
    action = pool.sent[0][0]
    assert isinstance(action, WarmTransfer | ColdTransfer | AddUser)
    assert action.role is Role.CUSTOMER


async def test_run_passes_its_parameters_on(pool: Recorder) -> None:
    """A run without them calls nobody, or somebody else."""
    await Phlo(pool, "p").run({"to": CALLEE})
    assert pool.sent[0][0] == RunPhlo(phlo_id="p", parameters={"to": CALLEE})


@pytest.mark.parametrize("nothing", [[], "", 0, False], ids=repr)
async def test_run_refuses_what_is_no_mapping(nothing: Any, pool: Recorder) -> None:  # noqa: ANN401 -- what is tested
    """Parameters lost on the way must not start a run without them."""
    with pytest.raises(InvalidInputError, match="parameters"):
        await Phlo(pool, "p").run(nothing)
    assert pool.sent == []


def test_wrong_ids_and_addresses_are_refused_when_the_handle_is_made(
    pool: Recorder,
) -> None:
    """A typing error is cheapest before anybody is on the line."""
    phlo = Phlo(pool, "p")
    with pytest.raises(InvalidInputError, match="phlo_id"):
        Phlo(pool, "../x")
    with pytest.raises(InvalidInputError, match="node_id"):
        phlo.multi_party_call("a b")
    with pytest.raises(InvalidInputError, match="node_id"):
        phlo.conference_bridge("")
    for node in (phlo.multi_party_call("n"), phlo.conference_bridge("n")):
        with pytest.raises(InvalidAddressError, match="member"):
            node.member("4155550100")
    assert pool.sent == []


def test_address_is_written_the_api_s_way(pool: Recorder) -> None:
    """The same agent, typed with blanks, is still the same agent."""
    node = Phlo(pool, "p").multi_party_call("n")
    assert node.member("+1 (415) 555-0100").address == AGENT
    assert node.member("+1 (415) 555-0100") == node.member(AGENT)


def test_handles_show_no_secrets(pool: Recorder) -> None:
    """Handles end up in logs and tracebacks."""
    phlo = Phlo(pool, "p", ACCOUNT)
    for node in (phlo.multi_party_call("n"), phlo.conference_bridge("n")):
        shown = repr(node.member(AGENT))
        assert "…00" in shown
        assert "4155550100" not in shown
        assert TOKEN not in shown
