"""What a test can do to the simulator, over HTTP: `/_simulator/…`.

For code that isn't Python, or runs in another process. Only this machine is heard.
"""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import unquote

import attrs

from aiophlo.simulator.api import RefusedError
from aiophlo.simulator.call import Call
from aiophlo.simulator.call_list import Listing
from aiophlo.simulator.controls import SimulatorControls
from aiophlo.simulator.event_poster import OUR_NUMBER, Callback
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.http11 import Answer, BodyEnd, Connection, Request
from aiophlo.simulator.people import Habit, Reaction

ROOT: Final = "/_simulator"
_LONGEST: Final = 1e9  # seconds
_STATUSES: Final = range(200, 600)

Document: TypeAlias = Mapping[str, Any] | list[Any] | None


def _expect(expected: str, is_right: Callable[[Any], bool]) -> Callable[..., None]:
    """Make a validator that refuses the request; None is right where it's default."""

    def validate(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if not (value is None and field.default is None) and not is_right(value):
            raise RefusedError(400, f"{field.name}: expected {expected}")

    return validate


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_headers(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str) and text.isprintable() and text.isascii()
        for text in (*value, *value.values())
    )


_TEXT: Final = _expect("text", lambda value: isinstance(value, str))
_FLAG: Final = _expect("true or false", lambda value: isinstance(value, bool))
_COUNT: Final = _expect("a number", _is_count)
_TIMES: Final = _expect(
    "a number from 1, or null for ever",
    lambda value: value is None or (_is_count(value) and value > 0),
)
_SECONDS: Final = _expect(  # what is longer is a mistake, and infinity no number
    "seconds", lambda value: _is_number(value) and 0 <= value <= _LONGEST
)
_CHANCE: Final = _expect(
    "a chance from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1
)
_STATUS: Final = _expect(
    "a status from 200 to 599", lambda value: _is_count(value) and value in _STATUSES
)
_HEADERS: Final = _expect("an object of texts", _are_headers)
_ANSWER: Final = _expect(
    "text or an object", lambda value: isinstance(value, str | dict)
)
_ENCODING: Final = _expect("form or json", lambda value: value in ("form", "json"))
_REACTION: Final = _expect(
    "one of " + ", ".join(Reaction), lambda value: value in [*Reaction]
)
_FAULT: Final = _expect("one of " + ", ".join(Fault), lambda value: value in [*Fault])


@attrs.frozen(kw_only=True)
class _Command:
    """One thing to do; its attributes are the fields of the request's JSON object."""

    route: ClassVar[tuple[str, str]]

    def run(self, simulator: SimulatorControls) -> Document | Awaitable[Document]:
        """Do it, and give what to answer."""
        raise NotImplementedError


class _ShowLedger(_Command):
    """All requests and all dials."""

    route = "GET", "/ledger"

    def run(self, simulator: SimulatorControls) -> Document:
        return simulator.ledger.as_json()


class _ShowSummary(_Command):
    """Counts: requests, dials, 429s, who was rung twice, the rate, connections."""

    route = "GET", "/summary"

    def run(self, simulator: SimulatorControls) -> Document:
        ledger = simulator.ledger
        return {
            "received": ledger.received,
            "dialled": ledger.dialled_total,
            "refused_429": ledger.refused_429,
            "rung_twice": ledger.rung_twice(),
            "rate_per_second": ledger.rate_per_second(),
            "connections": simulator.connections,
            "held": simulator.held,
        }


class _ShowPosts(_Command):
    """Events that have been posted, and what came of each."""

    route = "GET", "/posts"

    def run(self, simulator: SimulatorControls) -> Document:
        return [attrs.asdict(post) for post in simulator.posts]


class _ShowCalls(_Command):
    """Live calls and who is in them."""

    route = "GET", "/calls"

    def run(self, simulator: SimulatorControls) -> Document:
        return [_describe(call) for call in simulator.calls]


@attrs.frozen(kw_only=True)
class _PlaceCall(_Command):
    """Start a call in which a customer talks to an agent."""

    route = "POST", "/calls"
    phlo_id: str = attrs.field(validator=_TEXT)
    node_id: str = attrs.field(validator=_TEXT)
    agent: str = attrs.field(validator=_TEXT)
    customer: str = attrs.field(validator=_TEXT)
    account: str | None = attrs.field(default=None, validator=_TEXT)

    def run(self, simulator: SimulatorControls) -> Document:
        try:
            return _describe(simulator.place_call(**attrs.asdict(self)))
        except KeyError:
            message = "account: expected one that is known"
            raise RefusedError(400, message) from None


@attrs.frozen(kw_only=True)
class _HangUp(_Command):
    """Let a member of a call hang up, or somebody's phone stop ringing."""

    route = "DELETE", "/calls/{conference_uuid}/members/{address}"
    conference_uuid: str = attrs.field(validator=_TEXT)
    address: str = attrs.field(validator=_TEXT)

    def run(self, simulator: SimulatorControls) -> Document:
        for call in simulator.calls:
            member = call.members.get(self.address)
            if call.conference_uuid == self.conference_uuid and member:
                call.leave(member)
                return _describe(call)
        raise RefusedError(404, "no such live call or member")


@attrs.frozen(kw_only=True)
class _AddNode(_Command):
    """Let a PHLO and a node of it exist in strict mode."""

    route = "POST", "/nodes"
    phlo_id: str = attrs.field(validator=_TEXT)
    node_id: str = attrs.field(validator=_TEXT)

    def run(self, simulator: SimulatorControls) -> None:
        simulator.add_node(self.phlo_id, self.node_id)


@attrs.frozen(kw_only=True)
class _SetHabit(_Command):
    """Say how somebody takes calls; without `address`, everybody."""

    route = "POST", "/habits"
    address: str | None = attrs.field(default=None, validator=_TEXT)
    reaction: str = attrs.field(default="answers", validator=_REACTION)
    after: float = attrs.field(default=0.0, validator=_SECONDS)
    stays: float | None = attrs.field(default=None, validator=_SECONDS)

    def run(self, simulator: SimulatorControls) -> None:
        habit = Habit(Reaction(self.reaction), after=self.after, stays=self.stays)
        simulator.set_habit(habit, address=self.address)


@attrs.frozen(kw_only=True)
class _ListCalls(_Command):
    """Say how the list of calls tells of the legs from now on."""

    route = "POST", "/listing"
    lag: float = attrs.field(default=0.0, validator=_SECONDS)
    unlisted: float = attrs.field(default=0.0, validator=_CHANCE)
    queued: float = attrs.field(default=0.0, validator=_SECONDS)
    ahead: float = attrs.field(default=0.0, validator=_SECONDS)

    def run(self, simulator: SimulatorControls) -> None:
        simulator.list_calls(Listing(**attrs.asdict(self)))


@attrs.frozen(kw_only=True)
class _PlaceOtherCall(_Command):
    """Start a call of the account's that no PHLO is asked for."""

    route = "POST", "/other_calls"
    address: str = attrs.field(validator=_TEXT)
    reaction: str = attrs.field(default="answers", validator=_REACTION)
    after: float = attrs.field(default=0.0, validator=_SECONDS)
    stays: float | None = attrs.field(default=None, validator=_SECONDS)
    ours: str = attrs.field(default=OUR_NUMBER, validator=_TEXT)
    dialled: bool = attrs.field(default=True, validator=_FLAG)

    def run(self, simulator: SimulatorControls) -> Document:
        habit = Habit(Reaction(self.reaction), after=self.after, stays=self.stays)
        leg = simulator.place_other_call(
            self.address, habit=habit, ours=self.ours, dialled=self.dialled
        )
        return {"call_uuid": leg.call_uuid}


@attrs.frozen(kw_only=True)
class _ScriptFault(_Command):
    """Say how the next fitting requests go wrong."""

    route = "POST", "/faults"
    fault: str = attrs.field(validator=_FAULT)
    delay: float = attrs.field(default=0.0, validator=_SECONDS)
    dialled: bool | None = attrs.field(default=None, validator=_FLAG)
    to: str | None = attrs.field(default=None, validator=_TEXT)
    action: str | None = attrs.field(default=None, validator=_TEXT)
    times: int | None = attrs.field(default=1, validator=_TIMES)

    def run(self, simulator: SimulatorControls) -> None:
        simulator.fault_next(**attrs.asdict(self))


@attrs.frozen(kw_only=True)
class _ScriptAnswer(_Command):
    """Say how the next fitting requests are answered."""

    route = "POST", "/answers"
    status: int | None = attrs.field(default=None, validator=_STATUS)
    headers: dict[str, str] | None = attrs.field(default=None, validator=_HEADERS)
    body: str | dict[str, Any] | None = attrs.field(default=None, validator=_ANSWER)
    delay: float = attrs.field(default=0.0, validator=_SECONDS)
    dialled: bool | None = attrs.field(default=None, validator=_FLAG)
    to: str | None = attrs.field(default=None, validator=_TEXT)
    action: str | None = attrs.field(default=None, validator=_TEXT)
    times: int | None = attrs.field(default=1, validator=_TIMES)

    def run(self, simulator: SimulatorControls) -> None:
        simulator.answer_next(**attrs.asdict(self, recurse=False))


class _ClearScript(_Command):
    """Forget faults and answers that are still to come."""

    route = "DELETE", "/script"

    def run(self, simulator: SimulatorControls) -> None:
        simulator.clear_script()


class _HoldAnswers(_Command):
    """Keep answers back; requests still take effect."""

    route = "POST", "/held"

    def run(self, simulator: SimulatorControls) -> None:
        simulator.hold_answers()


class _ReleaseAnswers(_Command):
    """Give the answers that are held, and hold no more."""

    route = "DELETE", "/held"

    def run(self, simulator: SimulatorControls) -> None:
        simulator.release_answers()


@attrs.frozen(kw_only=True)
class _AddAccount(_Command):
    """Let one more account in; with `main`, a subaccount of that one."""

    route = "POST", "/accounts"
    auth_id: str = attrs.field(validator=_TEXT)
    auth_token: str = attrs.field(validator=_TEXT)
    main: str | None = attrs.field(default=None, validator=_TEXT)

    def run(self, simulator: SimulatorControls) -> None:
        try:
            simulator.add_account(self.auth_id, self.auth_token, self.main)
        except KeyError:
            raise RefusedError(400, "main: expected an account that is known") from None


@attrs.frozen(kw_only=True)
class _PostEvents(_Command):
    """Say where the events of live calls are posted, and how."""

    route = "POST", "/callback"
    url: str = attrs.field(validator=_TEXT)
    body: Literal["form", "json"] = attrs.field(default="form", validator=_ENCODING)
    signed: bool = attrs.field(default=True, validator=_FLAG)
    delay: float = attrs.field(default=0.0, validator=_SECONDS)
    late: float = attrs.field(default=0.0, validator=_CHANCE)
    late_by: float = attrs.field(default=0.05, validator=_SECONDS)
    twice: float = attrs.field(default=0.0, validator=_CHANCE)

    def run(self, simulator: SimulatorControls) -> None:
        simulator.post_events(Callback(**attrs.asdict(self)))


class _PostNoEvents(_Command):
    """Post events nowhere any more."""

    route = "DELETE", "/callback"

    def run(self, simulator: SimulatorControls) -> None:
        simulator.post_events(None)


class _Reset(_Command):
    """Forget all that happened and all that was said; be as at the start."""

    route = "POST", "/reset"

    def run(self, simulator: SimulatorControls) -> None:
        simulator.reset()


@attrs.frozen(kw_only=True)
class _Wait(_Command):
    """Answer once so many requests, dials, held answers and posts are there."""

    route = "POST", "/wait"
    requests: int = attrs.field(default=0, validator=_COUNT)
    dials: int = attrs.field(default=0, validator=_COUNT)
    held: int = attrs.field(default=0, validator=_COUNT)
    posts: int = attrs.field(default=0, validator=_COUNT)
    within: float = attrs.field(default=5.0, validator=_SECONDS)

    def run(self, simulator: SimulatorControls) -> Awaitable[Document]:
        return self._wait(simulator)

    async def _wait(self, simulator: SimulatorControls) -> Document:
        try:
            await simulator.wait_for(
                lambda _: len(simulator.posts) >= self.posts,
                requests=self.requests,
                dials=self.dials,
                held=self.held,
                within=self.within,
            )
        except TimeoutError:
            message = f"it did not happen within {self.within:g} s"
            raise RefusedError(504, message) from None
        return _ShowSummary().run(simulator)


COMMANDS: Final[tuple[type[_Command], ...]] = (
    _ShowLedger,
    _ShowSummary,
    _ShowPosts,
    _ShowCalls,
    _PlaceCall,
    _HangUp,
    _AddNode,
    _SetHabit,
    _ListCalls,
    _PlaceOtherCall,
    _ScriptFault,
    _ScriptAnswer,
    _ClearScript,
    _HoldAnswers,
    _ReleaseAnswers,
    _AddAccount,
    _PostEvents,
    _PostNoEvents,
    _Reset,
    _Wait,
)


class HttpControl:
    """Carries out what comes to `/_simulator`.

    Args:
        simulator: What it is done to.
    """

    def __init__(self, simulator: SimulatorControls) -> None:
        self._simulator = simulator
        self._waiting: set[asyncio.Task[None]] = set()

    def serve(self, connection: Connection, request: Request) -> None:
        """Answer a request that isn't the API's, now or later."""
        try:
            _check_loopback(connection.peer)
            if (request.method, request.path.rstrip("/")) == ("GET", ROOT):
                _reply(connection, 200, describe_routes())
                return
            done = _find(request).run(self._simulator)
        except RefusedError as refusal:
            _reply(connection, refusal.status, {"error": str(refusal)})
            return
        if isinstance(done, Awaitable):
            task = asyncio.get_running_loop().create_task(
                _reply_later(connection, done)
            )
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            _reply(connection, 200, done)

    async def close(self) -> None:
        """_Wait for nothing any more."""
        for task in list(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)


def describe_routes() -> dict[str, Any]:
    """Say what there is: each route, what it does, and the fields it takes."""
    return {
        " ".join((command.route[0], ROOT + command.route[1])): {
            "does": (command.__doc__ or "").strip(),
            "fields": [
                field.name
                for field in attrs.fields(command)
                if "{" + field.name + "}" not in command.route[1]
            ],
        }
        for command in COMMANDS
    }


def _check_loopback(peer: str) -> None:
    if not ipaddress.ip_address(peer).is_loopback:
        raise RefusedError(403, "only for this machine")


def _find(request: Request) -> _Command:
    methods = []
    for command in COMMANDS:
        method, path = command.route
        named = _match(ROOT + path, request.path.removesuffix("/"))
        if named is not None:
            if method == request.method:
                return _read(command, request.body, named)
            methods.append(method)
    if methods:
        expected = " or ".join(methods)
        raise RefusedError(405, f"expected {expected}, not {request.method}")
    raise RefusedError(404, f"no such resource: GET {ROOT} says what there is")


def _match(pattern: str, path: str) -> dict[str, str] | None:
    """Give what stands for the names in `pattern`, or None if it doesn't fit."""
    expected, given = pattern.split("/"), path.split("/")
    if len(expected) != len(given):
        return None
    named = {}
    for part, text in zip(expected, given, strict=True):
        if part.startswith("{"):
            named[part.strip("{}")] = unquote(text)
        elif part != text:
            return None
    return named


def _read(command: type[_Command], body: bytes, named: Mapping[str, str]) -> _Command:
    fields = {**_json_object(body), **named}
    known = attrs.fields_dict(command)
    for name in fields:
        if name not in known:
            names = ", ".join(known)
            hint = f"known are {names}" if known else "no field is known"
            raise RefusedError(400, f"{name}: unknown; {hint}")
    for name, field in known.items():
        if field.default is attrs.NOTHING and name not in fields:
            raise RefusedError(400, f"{name}: is missing")
    return command(**fields)


def _json_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        fields = json.loads(body)
    except (RecursionError, ValueError):
        fields = None
    if not isinstance(fields, dict):
        raise RefusedError(400, "expected a JSON object")
    return fields


async def _reply_later(connection: Connection, done: Awaitable[Document]) -> None:
    try:
        _reply(connection, 200, await done)
    except RefusedError as refusal:
        _reply(connection, refusal.status, {"error": str(refusal)})


def _reply(connection: Connection, status: int, document: Document) -> None:
    text = json.dumps({} if document is None else document)
    answer = Answer(status, f"{text}\n".encode())  # or a shell's prompt follows it
    connection.reply(answer.whole(), BodyEnd.KEEP)


def _describe(call: Call) -> dict[str, Any]:
    transfer = call.transfer
    return {
        "conference_uuid": call.conference_uuid,
        "phlo_id": call.phlo_id,
        "node_id": call.node_id,
        "account": call.account,
        "members": [attrs.asdict(member) for member in call.members.values()],
        "transfer": transfer
        and {"starter": transfer.starter.address, "target": transfer.target.address},
    }
