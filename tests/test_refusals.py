"""What is refused is never quoted: canaries in every argument of everything public."""

import inspect
import re
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import aiophlo
from aiophlo import (
    Account,
    Consult,
    EventRouter,
    Hold,
    InvalidInputError,
    Journal,
    Quota,
    RetryPolicy,
    SessionPool,
    WarmTransfer,
    webhooks,
)
from aiophlo.simulator import Simulator
from aiophlo.webhooks.signature import NonceCache
from tests.support.doubles import AGENT, NODE_ID, PHLO_ID, pool_of

NUMBER: Final = "+19998887766"
CUSTOMER: Final = "+14152224444"
SUPERVISOR: Final = "+14152225555"
TOKEN: Final = "canary-Q7dZ1nVx-token"  # noqa: S105 -- made up
SHOWN: Final = re.compile(r"\D{0,3}".join("99988877") + "|" + TOKEN)


class Stranger:
    """Something of no use, whose repr tells all."""

    def __repr__(self) -> str:
        return f"<Stranger {NUMBER} {TOKEN}>"


CANARIES: Final[list[Any]] = [
    NUMBER,
    f"{NUMBER}x",
    int(NUMBER),
    -float(NUMBER),
    TOKEN,
    f"{TOKEN}\n",
    NUMBER.encode(),
    [NUMBER, TOKEN],
    {NUMBER: TOKEN},
    Stranger(),
    Stranger,
]
# What stands in the other arguments: by name, since that is what is right there.
RIGHT: Final[dict[str, Any]] = {
    "auth_id": "MACANARY000000000001",
    "auth_token": "token",
    "auth_tokens": "token",
    "phlo_id": PHLO_ID,
    "node_id": NODE_ID,
    "to": SUPERVISOR,
    "member": SUPERVISOR,
    "address": SUPERVISOR,
    "trigger_source": AGENT,
    "agent": AGENT,
    "customer": CUSTOMER,
    "value": SUPERVISOR,
    "text": "300/5",
    "method": "POST",
    "url": "https://cc.example.com/events",
    "headers": {},
    "params": {},
    "body": b"",
    "nonce": "1234",
    "feed": print,
    "actions": [],
}
# What an error is about: a file, a parameter's name.
PASSED_ON: Final = {"error", "path", "environ", "field"}


def callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield what can be called without a pool: classes, functions, class methods."""
    for module in (aiophlo, webhooks):
        names = module.__all__
        for name in names:
            thing = getattr(module, name)
            if name.startswith("_") or not callable(thing):
                continue
            if isinstance(thing, type) and issubclass(thing, BaseException | Consult):
                continue
            yield name, thing
    for bound in (Account.from_env, Quota.parse, EventRouter().feed):
        yield bound.__qualname__, bound
    yield from methods_of(NonceCache(), "NonceCache")


def methods_of(thing: object, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public methods of an object."""
    for inner, method in inspect.getmembers(thing, inspect.ismethod):
        if not inner.startswith("_"):
            yield f"{name}.{inner}", method


def calls(called: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield arguments, with a canary in each of them in turn."""
    try:
        parameters = inspect.signature(called).parameters.values()
    except ValueError:  # a StrEnum's, say
        return
    named = [
        one.name
        for one in parameters
        if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}
    ]
    needed = [one.name for one in parameters if one.default is one.empty]
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        named += ["send_within", "ring_for", "told_within", "role", "on_duplicate"]
    for name in set(named) - PASSED_ON:
        for canary in CANARIES:
            others = {other: RIGHT.get(other) for other in needed if other in named}
            yield {**others, name: canary}


async def shown_by(called: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Return all that an exception of a call shows."""
    try:
        result = called(**arguments)
        if inspect.isawaitable(result):
            await result
        elif isinstance(result, Consult):
            await result.start()
            await result.abort()
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is looked at
        told = traceback.format_exception(error)
        # A frame's line of source may stand there with a caret below: no values.
        return "".join([*told, repr(error), str(error), repr(vars(error))])
    return ""


@pytest.mark.parametrize(
    "called", [pytest.param(thing, id=name) for name, thing in callables()]
)
async def test_refusal_quotes_nothing(called: Callable[..., Any]) -> None:
    """Two swapped arguments must not put a customer or a token into the log."""
    for arguments in calls(called):
        shown = await shown_by(called, arguments)
        assert not SHOWN.search(shown), shown


@pytest.fixture
async def pool(simulator: Simulator) -> AsyncIterator[SessionPool]:
    """Give a pool that sends at once, and to a simulator."""
    async with pool_of(simulator, retry=RetryPolicy(attempts=1)) as pool:
        yield pool


async def test_refusal_of_a_pool_quotes_nothing(
    pool: SessionPool, tmp_path: Path
) -> None:
    """The same, for what is called a thousand times a day."""
    node = pool.phlo(PHLO_ID).multi_party_call(NODE_ID)
    bridge = pool.phlo(PHLO_ID).conference_bridge(NODE_ID)
    found: list[str] = []
    async with Journal(tmp_path / "j") as journal:
        things = {
            "phlo": pool.phlo(PHLO_ID),
            "node": node,
            "member": node.member(AGENT),
            "bridge": bridge,
            "bridge_member": bridge.member(AGENT),
            "pool": pool,
            "journal": journal,
        }
        right = {
            "action": Hold(phlo_id=PHLO_ID, node_id=NODE_ID, member=AGENT),
            "node": node,
            "journal": journal,
            "router": EventRouter(),
            "key": "k",
        }
        for name, thing in things.items():
            for full_name, method in methods_of(thing, name):
                if full_name.split(".")[-1] in {"close", "open", "drain"}:
                    continue
                for arguments in calls(method):
                    if str(arguments.get("key")).startswith(TOKEN):
                        continue  # a key is shown, unless it could hold a number
                    given = {
                        key: right.get(key) if value is None else value
                        for key, value in arguments.items()
                    }
                    shown = await shown_by(method, given)
                    found += [f"{full_name}: {shown}"] if SHOWN.search(shown) else []
    assert found == []


def test_canary_would_be_found() -> None:
    """A net with a hole catches nothing, and nobody notices."""
    error = InvalidInputError(f"to: got {NUMBER}")
    error.__cause__ = ValueError(TOKEN)
    told = "".join(traceback.format_exception(error))
    assert len(SHOWN.findall(told)) == 2
    with pytest.raises(InvalidInputError):
        WarmTransfer(phlo_id=PHLO_ID, node_id=NODE_ID, to=NUMBER, trigger_source="x")
