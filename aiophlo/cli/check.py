"""`aiophlo check`: credentials, PHLO and node, by GET alone: nothing rings."""

import asyncio
from typing import Annotated

import typer

from aiophlo.cli.check_calls import KnownCall, ListedCalls, list_calls
from aiophlo.cli.endpoint import Endpoint
from aiophlo.cli.exit_codes import Exit, UnusableError, exit_of
from aiophlo.cli.options import AllowPlaintext, AsJson, BaseUrl, Proxy
from aiophlo.cli.output import say, say_json
from aiophlo.cli.sending import known_of, outcome_of
from aiophlo.cli.terminal_text import harmless
from aiophlo.model.accounts import Account
from aiophlo.model.actions import GetNode, GetPhlo
from aiophlo.model.outcomes import (
    CREDENTIALS_REFUSED,
    Accepted,
    Outcome,
    Rejected,
)

_NO_PHLO = "00000000-0000-0000-0000-000000000000"
_SEND_WITHIN = 4.0  # a host that is down is to be told of, not waited for


def check(
    *,
    phlo_id: Annotated[str | None, typer.Option(help="A PHLO to look up.")] = None,
    node_id: Annotated[
        str | None, typer.Option(help="A multi-party-call node of that PHLO.")
    ] = None,
    calls: Annotated[
        bool,
        typer.Option("--calls", help="See if Plivo lists a call that a PHLO has made."),
    ] = False,
    to: Annotated[str | None, typer.Option(help="Whom that call was to.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="When it was asked for, such as 14:05:03, to the minute."),
    ] = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
    proxy: Proxy = None,
    allow_plaintext: AllowPlaintext = False,
) -> int:
    """Check credentials, PHLO and node by GET alone: nothing rings."""
    if (to, at) != (None, None) and not calls:
        raise UnusableError("--to, --at: expected --calls with them")
    known = KnownCall.parse(to, at) if calls else None
    if node_id is not None and phlo_id is None:
        raise UnusableError("--node-id: expected a --phlo-id with it")
    asked: list[GetPhlo | GetNode] = [GetPhlo(phlo_id=phlo_id or _NO_PHLO)]
    if phlo_id is not None and node_id is not None:
        asked.append(GetNode(phlo_id=phlo_id, node_id=node_id))
    endpoint = Endpoint(base_url, proxy, allow_plaintext)
    outcomes, listed = asyncio.run(_ask(Account.from_env(), endpoint, asked, known))
    findings = _findings(outcomes, probe=phlo_id is None)
    code = _exit(findings, outcomes)
    if as_json:
        error = harmless(outcomes[-1].error) if code else None
        told: dict[str, object] = {**findings, "calls": "not_checked", "error": error}
        if listed is not None:
            told |= {"calls": listed.finding, "listed": listed.as_json()}
        say_json(told)
    else:
        say(*_lines(findings, outcomes), *(listed.lines if listed else ()))
    return code if listed is None else max(code, listed.exit)


async def _ask(
    account: Account,
    endpoint: Endpoint,
    asked: list[GetPhlo | GetNode],
    known: KnownCall | None,
) -> tuple[list[Outcome], ListedCalls | None]:
    """Ask one after the other, until one isn't accepted; then for a known call."""
    outcomes: list[Outcome] = []
    async with endpoint.pool(account) as pool:
        for action in asked:
            outcomes.append(await outcome_of(pool, action, send_within=_SEND_WITHIN))
            if not isinstance(outcomes[-1], Accepted):
                break
        if known is None:
            return outcomes, None
        return outcomes, await list_calls(pool, account, known)


def _findings(outcomes: list[Outcome], *, probe: bool) -> dict[str, str]:
    """Return what is known of credentials, PHLO and node.

    Args:
        outcomes: Of the PHLO, and perhaps of the node.
        probe: The PHLO is none of theirs: only the credentials were asked about.

    Source:
        Assumed: credentials are looked at before the PHLO, so a 404 proves them.
    """
    found = [_found(outcome) for outcome in outcomes]
    answered = found[0] in {"ok", "not_found"}
    credentials = "ok" if answered else found[0]
    return {
        "credentials": credentials,
        "phlo": found[0] if answered and not probe else "not_checked",
        "node": found[1] if len(found) > 1 else "not_checked",
    }


def _found(outcome: Outcome) -> str:
    match outcome:
        case Accepted():
            return "ok"
        case Rejected(status=status) if status in CREDENTIALS_REFUSED:
            return "refused"
        case Rejected(status=404):
            return "not_found"
    return "unknown"


def _exit(findings: dict[str, str], outcomes: list[Outcome]) -> Exit:
    if set(findings.values()) <= {"ok", "not_checked"}:
        return Exit.ACCEPTED
    return exit_of(outcome.verdict for outcome in outcomes)


_WORDS = {
    "ok": "ok",
    "refused": "refused: check PLIVO_AUTH_ID and PLIVO_AUTH_TOKEN",
    "not_found": "not found",
    "unknown": "unknown",
    "not_checked": "not checked",
}


def _lines(findings: dict[str, str], outcomes: list[Outcome]) -> list[str]:
    lines = [f"{what:<12} {_WORDS[found]}" for what, found in findings.items()]
    if _exit(findings, outcomes):
        lines.append(f"The last answer: {known_of(outcomes[-1]) or 'none'}.")
    return lines
