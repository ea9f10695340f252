"""Reads requests to the PHLO API, or refuses them, and makes the documented answers."""

import json
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import attrs

from aiophlo.simulator.http11 import Answer, Request

DIALLING: Final = frozenset({"call", "warm_transfer", "cold_transfer", "run_phlo"})
LISTING: Final = frozenset({"list_calls", "get_call"})
READING: Final = frozenset({"get_phlo", "get_node"}) | LISTING
_NODE_ACTIONS: Final = frozenset({"call", "warm_transfer", "cold_transfer"})
_MEMBER_ACTIONS: Final = {
    "multi_party_call": frozenset(
        {
            "abort_transfer",
            "resume_call",
            "voicemail_drop",
            "hangup",
            "hold",
            "unhold",
            "mute",
            "unmute",
        }
    ),
    "conference_bridge": frozenset({"mute", "unmute", "leave"}),
}
_CREATED_ON: Final = "2020-08-01 09:05:11.846982+00:00"
_ROLES: Final = frozenset({"agent", "customer"})
_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_ADDRESS: Final = re.compile(r"\+?[1-9][0-9]{6,14}|sips?:[^\s@/]+@[^\s@/]+")


class RefusedError(Exception):
    """The API refuses a request.

    Attributes:
        status: HTTP status to answer.
        error: What the answer's `error` says.
    """

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@attrs.define
class Asked:
    """What one request asks for; what it doesn't say is empty.

    Attributes:
        action: Plivo's word; `run_phlo`, `get_phlo`, `get_node`, `list_calls`,
            `get_call` and `bridge_*` for what Plivo has no word for.
        owner: The auth_id in the path, where one is.
        phlo_id: PHLO.
        node_type: `multi_party_call` or `conference_bridge`.
        node_id: Node.
        member: Member's address, decoded.
        to: Address to dial.
        trigger_source: Agent who starts it.
        role: Role of the one dialled.
        call_uuid: Call to describe.
        query: Parameters of the URL's query.
        refusal: Why the API refuses, if it does.
    """

    action: str = ""
    owner: str = ""
    phlo_id: str = ""
    node_type: str = ""
    node_id: str = ""
    member: str = ""
    to: str = ""
    trigger_source: str = ""
    role: str = ""
    call_uuid: str = ""
    query: dict[str, str] = attrs.field(factory=dict)
    refusal: RefusedError | None = None

    @property
    def address(self) -> str:
        """The one whose phone or leg it is about."""
        return self.to or self.member


def understand(request: Request) -> Asked:
    """Read a request as far as it makes sense.

    Source:
        Plivo docs, "PHLO API"; plivo-python's and plivo-node's phlo clients for
        `mute`, `unmute`, conference bridges and the trailing slash. Assumed: numbers
        without `+` are taken too, as in Plivo's older examples. The list of calls:
        Plivo docs, "Calls", and plivo-python, `calls.py`, `live_calls.py` and
        `queued_calls.py`.
    """
    asked = Asked()
    try:
        _find_endpoint(request, asked)(request, asked)
    except RefusedError as refusal:
        asked.refusal = refusal
    return asked


_Reader = Callable[[Request, Asked], None]


def _find_endpoint(request: Request, asked: Asked) -> _Reader:
    segments = request.path.split("/")
    if segments[-1] == "":
        segments.pop()
    readers: dict[str, _Reader]
    match segments[2:] if segments[:2] == ["", "v1"] else ():
        case ["account", owner, "phlo", phlo_id]:
            asked.owner, asked.phlo_id = owner, phlo_id
            readers = {"POST": _read_run}
        case ["phlo", phlo_id]:
            asked.phlo_id = phlo_id
            readers = {"GET": _read_get_phlo}
        case ["phlo", phlo_id, node_type, node_id]:
            asked.phlo_id, asked.node_type, asked.node_id = phlo_id, node_type, node_id
            readers = {"GET": _read_get_node, "POST": _read_node_action}
        case ["phlo", phlo_id, node_type, node_id, "members", member]:
            asked.phlo_id, asked.node_type, asked.node_id = phlo_id, node_type, node_id
            asked.member = unquote(member)
            readers = {"POST": _read_member_action}
        case ["Account", owner, "Call", *rest] if len(rest) <= 1:
            asked.owner, asked.call_uuid = owner, "".join(rest)
            return _reader_for(request, {"GET": _read_calls})
        case _:
            raise RefusedError(404, "no such resource")
    _check_path(asked)
    return _reader_for(request, readers)


def _reader_for(request: Request, readers: dict[str, _Reader]) -> _Reader:
    if request.method not in readers:
        raise RefusedError(405, f"{request.method} is not allowed here")
    return readers[request.method]


def _check_path(asked: Asked) -> None:
    ids = [asked.phlo_id, asked.node_id] if asked.node_type else [asked.phlo_id]
    if not all(map(_ID.fullmatch, ids)):
        raise RefusedError(404, "no such PHLO or node")
    if asked.node_type and asked.node_type not in _MEMBER_ACTIONS:
        raise RefusedError(404, "no such type of node")


def _read_run(request: Request, asked: Asked) -> None:
    asked.action = "run_phlo"
    fields = _json_object(request.body) if request.body else {}
    to = fields.get("to")
    asked.to = to if isinstance(to, str) else ""


def _read_get_phlo(request: Request, asked: Asked) -> None:
    del request
    asked.action = "get_phlo"


def _read_get_node(request: Request, asked: Asked) -> None:
    del request
    asked.action = "get_node"


def _read_calls(request: Request, asked: Asked) -> None:
    asked.action = "get_call" if asked.call_uuid else "list_calls"
    asked.query = dict(parse_qsl(request.query))


def _read_node_action(request: Request, asked: Asked) -> None:
    fields = _json_object(request.body)
    asked.action = _text(fields, "action")
    asked.to = _text(fields, "to")
    asked.trigger_source = _text(fields, "trigger_source")
    asked.role = _text(fields, "role", default="agent")
    if asked.node_type != "multi_party_call":
        raise RefusedError(405, "a conference bridge takes no such action")
    if asked.action not in _NODE_ACTIONS:
        raise RefusedError(400, "action is missing or invalid")
    if asked.role not in _ROLES:
        raise RefusedError(400, "role must be agent or customer")
    _check_address("to", asked.to)
    _check_address("trigger_source", asked.trigger_source)


def _read_member_action(request: Request, asked: Asked) -> None:
    action = _text(_json_object(request.body), "action")
    bridge = asked.node_type == "conference_bridge"
    asked.action = f"bridge_{action}" if bridge else action
    if action not in _MEMBER_ACTIONS[asked.node_type]:
        raise RefusedError(400, "action is missing or invalid")
    _check_address("member_address", asked.member)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        raise RefusedError(400, "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise RefusedError(400, "the body is not a JSON object")
    return fields


def _text(fields: dict[str, Any], name: str, default: str = "") -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise RefusedError(400, f"{name} must be a string")
    return value


def _check_address(name: str, address: str) -> None:
    if not _ADDRESS.fullmatch(address):
        raise RefusedError(400, f"{name} is missing or invalid")


def success(asked: Asked, api_id: str) -> Answer:
    """Make the documented answer to a request that is carried out.

    Source:
        Plivo docs, "PHLO API": bodies and statuses of each request.
    """
    match asked.action:
        case "run_phlo":
            return Answer.of_json(
                201,
                {
                    "phlo_id": asked.phlo_id,
                    "api_id": api_id,
                    "message": "PHLO execution started",
                },
            )
        case "get_phlo":
            phlo = {"api_id": api_id, "phlo_id": asked.phlo_id, "name": "simulated"}
            return Answer.of_json(200, phlo | {"created_on": _CREATED_ON})
        case "get_node":
            return Answer.of_json(200, _node(asked, api_id))
    return Answer.of_json(201, {"api_id": api_id, "error": ""})


def _node(asked: Asked, api_id: str) -> dict[str, str]:
    return {
        "api_id": api_id,
        "node_id": asked.node_id,
        "phlo_id": asked.phlo_id,
        "name": "simulated",
        "node_type": asked.node_type,
        "created_on": _CREATED_ON,
    }
