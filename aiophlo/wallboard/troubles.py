"""What is wrong, in words, and what to do about it. Pure: made from a snapshot."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

ALARM: Final = "alarm"
WARNING: Final = "warning"
_RECENT: Final = 24  # slices: two minutes
_SPENT_BY_US: Final = 0.97  # share of the quota; below it, somebody else spends it


def troubles(view: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what is wrong in a merged snapshot, the worst first.

    Args:
        view: As `merging.merged` makes it, but for this.
    """
    found = [*_on_hold(view), *_webhooks(view)]
    for account in view["accounts"]:
        found += [*_quota(account), *_refusals(account)]
    return [*found, *_doubts(view), *_processes(view)]


def _trouble(kind: str, level: str, what: str, todo: str) -> dict[str, str]:
    return {"kind": kind, "level": level, "what": what, "todo": todo}


def _on_hold(view: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for one in view["on_hold"]:
        agent = one["agent"] or "unknown"
        partner = one["partner"] or "nobody"
        yield {
            **_trouble(
                "on_hold",
                ALARM,
                "A customer may be on hold, with nobody on the line",
                "Call the customer back, or put an agent into the call, now. Agent"
                f" {agent}, was to reach {partner}, {one['place']}. The log says who it"
                f" is: CRITICAL, phlo_handover={one['id']}.",
            ),
            "age": one["age"],
        }


def _webhooks(view: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    hooks = view["webhooks"]
    if view["unseen"] and not _is_younger(view["event_age"], view["unseen_age"]):
        last = hooks["last_age"]
        since = "" if last is None else f" The last one came {_ago(last)}."
        yield _trouble(
            "webhook",
            WARNING,
            f"Webhooks don't arrive: {_some(view['unseen'], 'ring')} ended without any"
            f" event from Plivo.{since}",
            "Nobody can see who answers, so customers come back to their agents. Check"
            " that Plivo can reach the callback URL: DNS, certificate, proxy, and that"
            " the service which receives it runs.",
        )
    results = hooks["results"]
    if results.get("refused"):
        yield _trouble(
            "webhook_refused",
            WARNING,
            f"{_some(results['refused'], 'webhook')} refused in ten minutes: no valid"
            " signature",
            "Check auth_tokens of the receiver, and its public_url behind a proxy; or"
            " somebody else calls that URL.",
        )
    if bad := results.get("failed", 0) + results.get("unreadable", 0):
        yield _trouble(
            "webhook_failed",
            WARNING,
            f"{_some(bad, 'webhook')} could not be handled in ten minutes",
            "Look for ERROR in the log of the service that receives them.",
        )


def _is_younger(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)


def _quota(account: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    refused = sum(account["refused"][-_RECENT:])
    limit = account["limit"]
    if not refused:
        return
    # Of the slices with a 429: in these the quota was spent, by whomever.
    pairs = zip(
        account["requests"][-_RECENT:], account["refused"][-_RECENT:], strict=True
    )
    ours = [(sent - no) / account["slice_seconds"] for sent, no in pairs if no]
    own = max(ours)
    if limit is not None and own < limit * _SPENT_BY_US:
        yield _trouble(
            "quota_eaten",
            WARNING,
            f"Something else spends the quota of {account['account']}: {refused} times"
            f" 429 in two minutes, at {own:.0f} of {limit:.0f} requests/s from here",
            "Find what else sends with this account: another program, a process without"
            " the coordinator, a subaccount. Or give this one a lower quota.",
        )
    else:
        yield _trouble(
            "throttled",
            WARNING,
            f"Plivo refused {_some(refused, 'request')} of {account['account']} (429)"
            " in two minutes",
            "The quota that is set is above what Plivo grants: lower it.",
        )


_WHY: Final = {
    "rejected 401": ("Plivo refuses the credentials", "Check auth_id and auth_token."),
    "rejected 403": ("Plivo refuses the credentials", "Check the account's rights."),
    "not_sent unreachable": (
        "Plivo can't be reached",
        "Check network, DNS and proxy of this machine, and Plivo's status page.",
    ),
    "not_sent misconfigured": (
        "Plivo can't be reached, and no further try will change that",
        "Check the host's name, the proxy, and the certificates.",
    ),
    "not_sent expired": (
        "what could not leave in time was not sent",
        "More is asked for than the quota grants: raise send_within, or send less.",
    ),
    "not_sent out_of_files": ("no file is left for a connection", "Raise ulimit -n."),
}


def _refusals(account: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for reason, (what, todo) in _WHY.items():
        if number := account["reasons"].get(reason):
            yield _trouble(
                reason.replace(" ", "_"),
                WARNING,
                f"{account['account']}: {what} ({_some(number, 'action')} in ten"
                " minutes)",
                todo,
            )


def _doubts(view: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    number = sum(account["verdicts"]["in_doubt"] for account in view["accounts"])
    if number:
        yield _trouble(
            "in_doubt",
            WARNING,
            f"{_some(number, 'action')} in doubt in ten minutes: a phone may have rung",
            "Look them up in Plivo's call log before anybody sends them again.",
        )


def _processes(view: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for process in view["processes"]:
        if process["coordinator"] == "away":
            yield _trouble(
                "coordinator",
                WARNING,
                f"{process['name']} doesn't reach the coordinator's database: it goes"
                " on by itself, with its share of the quota",
                "Check that Postgres runs and can be reached from that machine.",
            )
        if process["age"] > _STALE:
            yield _trouble(
                "process",
                WARNING,
                f"{process['name']} has said nothing for {process['age']:.0f} s",
                "It may hang, or be cut off; its figures here are old.",
            )


_STALE: Final = 3.0


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _ago(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 -- two minutes
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago"
