"""`aiophlo transfer`: one warm transfer, and plainly what came of it."""

import asyncio
import json
from typing import Annotated

import typer

from aiophlo.cli.endpoint import Endpoint
from aiophlo.cli.exit_codes import Exit, UnusableError, exit_of
from aiophlo.cli.options import (
    AllowPlaintext,
    AsJson,
    BaseUrl,
    NodeId,
    PhloId,
    Proxy,
    positive,
)
from aiophlo.cli.output import output_failure, say, say_error, say_json
from aiophlo.cli.results import FIELDS, result_of
from aiophlo.cli.sending import known_of, outcome_of
from aiophlo.cli.terminal_text import harmless_id
from aiophlo.model.accounts import Account
from aiophlo.model.actions import Role, WarmTransfer
from aiophlo.model.outcomes import (
    CREDENTIALS_REFUSED,
    Accepted,
    InDoubt,
    NotSent,
    Outcome,
    Rejected,
)
from aiophlo.model.redaction import mask
from aiophlo.observed_events import ActionEnded, ObservedEvent
from aiophlo.pool import SessionPool
from aiophlo.protocol.codec import encode


def transfer(
    *,
    phlo_id: PhloId,
    node_id: NodeId,
    to: Annotated[str, typer.Option(help="Number or SIP endpoint to dial.")],
    trigger_source: Annotated[
        str, typer.Option(help="Address of the agent who starts the transfer.")
    ],
    role: Annotated[
        Role, typer.Option(help="Role of the one who is dialled.")
    ] = Role.AGENT,
    send_within: Annotated[
        float,
        typer.Option(callback=positive, help="Seconds until sending is worthless."),
    ] = 10.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the request, send nothing.")
    ] = False,
    look: Annotated[
        bool,
        typer.Option(
            "--look",
            help="If the answer is lost, look up to 8 seconds in Plivo's list of calls"
            " whether the phone rings; see `aiophlo check --calls`.",
        ),
    ] = False,
    caller_id: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER",
            help="Number that the node calls from, and nothing else: then --look sees a"
            " call as soon as it is listed. As often as there are such numbers.",
        ),
    ] = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
    proxy: Proxy = None,
    allow_plaintext: AllowPlaintext = False,
) -> int:
    """Issue one warm transfer and say which of four things happened."""
    action = WarmTransfer(
        phlo_id=phlo_id,
        node_id=node_id,
        to=to,
        trigger_source=trigger_source,
        role=role,
    )
    endpoint = Endpoint(base_url, proxy, allow_plaintext)
    if dry_run:
        _show_request(action, endpoint, as_json=as_json)
        return Exit.ACCEPTED
    if caller_id and not look:
        raise UnusableError("--caller-id: expected --look with it")
    pool = endpoint.pool(
        Account.from_env(), [note := _Told(action)], caller_ids=caller_id or ()
    )
    try:
        outcome = asyncio.run(_send(pool, action, send_within=send_within, look=look))
    except KeyboardInterrupt:
        if note.outcome is not None:
            _report(note.outcome, as_json=as_json)
        return Exit.INTERRUPTED
    _report(outcome, as_json=as_json)
    return exit_of([outcome.verdict])


class _Told:
    """Knows what came of an action even when its sending is interrupted.

    Attributes:
        outcome: What came of it, once that is known; what a look asked is passed over.
    """

    def __init__(self, action: WarmTransfer) -> None:
        self.outcome: Outcome | None = None
        self._action = action

    def __call__(self, event: ObservedEvent) -> None:
        if isinstance(event, ActionEnded) and event.outcome.action is self._action:
            self.outcome = event.outcome


async def _send(
    pool: SessionPool, action: WarmTransfer, *, send_within: float, look: bool
) -> Outcome:
    async with pool:
        return await outcome_of(pool, action, send_within=send_within, look=look)


def _show_request(action: WarmTransfer, endpoint: Endpoint, *, as_json: bool) -> None:
    endpoint.check()
    request = encode(action, auth_id="")
    body = json.loads(request.body or b"{}")
    for name in ("to", "trigger_source"):
        body[name] = mask(body[name])
    url = endpoint.url.rstrip("/") + request.path
    if as_json:
        say_json({"method": request.method, "url": url, "body": body})
        return
    say(
        f"{request.method} {url}",
        "Authorization: Basic … (PLIVO_AUTH_ID and PLIVO_AUTH_TOKEN)",
        "Content-Type: application/json",
        "",
        json.dumps(body, ensure_ascii=False),
        "",
        "Nothing was sent: this is a dry run.",
    )


def _report(outcome: Outcome, *, as_json: bool) -> None:
    lines = _lines(outcome)
    fields = dict(zip(FIELDS[1:], result_of(outcome)[1:], strict=True))  # but its key
    if not (say_json(fields) if as_json else say(*lines)):
        why = f"aiophlo: standard output can't be written: {output_failure()}"
        say_error(why, *lines)


def _lines(outcome: Outcome) -> list[str]:
    """Return what happened, and what to do about it."""
    return [
        f"{_headline(outcome)}{_details(outcome)}.",
        _advice(outcome),
        f"{outcome.attempts} attempt{'s' * (outcome.attempts != 1)},"
        f" {outcome.seconds:.2f} s"
        + (f", api_id {harmless_id(outcome.api_id)}" if outcome.api_id else ""),
    ]


_HEADLINES = {
    Accepted: "Accepted: Plivo said yes and dials",
    Rejected: "Rejected: Plivo said no, nothing rings",
    NotSent: "Not sent: nothing rings",
    InDoubt: "In doubt: the request left, and a phone may be ringing",
}


def _headline(outcome: Outcome) -> str:
    if isinstance(outcome, Accepted) and outcome.sighted:
        return "Accepted: the answer was lost, but Plivo's list shows the call to"
    return _HEADLINES[type(outcome)]


def _details(outcome: Outcome) -> str:
    if isinstance(outcome, Accepted):
        action = outcome.action
        return f" {mask(action.to)}" if isinstance(action, WarmTransfer) else ""
    known = known_of(outcome)
    return f" ({known})" if known else ""


def _advice(outcome: Outcome) -> str:
    match outcome:
        case Accepted():
            return "The consult begins when it is answered. Don't send it again."
        case Rejected(status=status) if status in CREDENTIALS_REFUSED:
            return "Check PLIVO_AUTH_ID and PLIVO_AUTH_TOKEN, then send it again."
        case Rejected(status=404):
            return "Check --phlo-id, --node-id and that the call is still up."
        case Rejected():
            return "Correct what was refused; the same again is refused again."
        case NotSent():
            return "It is safe to send it again."
    looked = getattr(outcome, "looked", 0)
    unseen = (
        "Its call was looked for and not seen, which proves nothing. " if looked else ""
    )
    return (
        f"{unseen}Don't send it again before you know: ask the agent or look in Plivo's"
        " logs."
    )
