"""What is wrong, in words, and what to do about it. Pure: made from a snapshot."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

ALARM: Final = "alarm"
WARNING: Final = "warning"
_RECENT: Final = 24  # slices: two minutes
_NOW: Final = 15.0  # seconds for which something still goes on after its last sign
_JUST_NOW: Final = 5.0
_FORGOTTEN: Final = 60.0  # seconds after the last ring that nobody heard of
_MANY_DOUBTS: Final = 5
_DOUBTED: Final = 0.02  # share of the actions
_SPENT_BY_US: Final = 0.97  # share of the quota; below it, somebody else spends it


def troubles(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is wrong in a merged snapshot, the worst first.

    Each has its `kind`, `level`, `short`, `what` and `todo`; that of a customer on hold
    its `age`, and in `brief` who it is; that of those who aren't listed their `number`.
    Others may have `last`: what came last, and how many seconds ago, None for never.
    Equal `short` are of one kind to who reads how many there are of each.

    Args:
        view: As `merging.merged` makes it, but for this.
    """
    found = [*_on_hold(view), *_webhooks(view)]
    several = len(view["accounts"]) > 1
    for account in view["accounts"]:
        whose = f" of {account['account']}" if several else ""
        found += [*_quota(account, whose), *_refusals(account)]
    return [*found, *_doubts(view), *_processes(view)]


def _trouble(
    kind: str, level: str, short: str, what: str, todo: str, **last: float | None
) -> dict[str, Any]:
    """Return a trouble; `last` says how long ago what happened last, None for never.

    Ages aren't in the sentences, which would be read out again every second.
    """
    told = {"kind": kind, "level": level, "short": short, "what": what, "todo": todo}
    ages = {f"Last {name.replace('_', ' ')}": age for name, age in last.items()}
    return {**told, "last": ages} if ages else told


def _on_hold(view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for one in view["on_hold"]:
        agent = one["agent"] or "unknown"
        reach = f", was to reach {one['partner']}" if one["partner"] else ""
        customer = one.get("customer") or "unknown"
        yield {
            **_trouble(
                "on_hold",
                ALARM,
                "customer on hold",
                "A customer may be on hold, with nobody on the line",
                f"Customer {customer} with agent {agent}{reach}. Call the customer"
                " back, or put an agent into the call, now. Full numbers: the agent's"
                " screen, your records of this handover (log: CRITICAL,"
                f" phlo_handover={one['id']}). Always stays 30 min.",
            ),
            "brief": _brief(one),
            "age": one["age"],
            "handover": one["id"],
        }
    if unlisted := view["on_hold_number"] - len(view["on_hold"]):
        yield {
            **_trouble(
                "on_hold_unlisted",
                ALARM,
                "customer on hold",
                f"{_some(unlisted, 'more customer')} may be on hold",
                "This board lists no more. Each has a line in the log: CRITICAL, with"
                " its phlo_handover.",
            ),
            "number": unlisted,
        }


def _brief(one: Mapping[str, Any]) -> str:
    """Return who it is, and the handover's id, in one line of half a wall."""
    known = [f"{name} {one[name]}" for name in ("customer", "agent") if one.get(name)]
    who = " with ".join(known) or "unknown"
    return f"{who[0].upper()}{who[1:]}: {one['id']}"


def _webhooks(view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _unseen(view)
    hooks = view["webhooks"]
    results = hooks["results"]
    if results.get("refused"):
        yield _trouble(
            "webhook_refused",
            WARNING,
            "webhooks refused",
            f"{_some(results['refused'], 'webhook')} refused in ten minutes: no valid"
            " signature",
            "Check auth_tokens of the receiver, and its public_url behind a proxy; or"
            " somebody else calls that URL.",
        )
    if bad := results.get("failed", 0) + results.get("unreadable", 0):
        yield _trouble(
            "webhook_failed",
            WARNING,
            "webhooks failed",
            f"{_some(bad, 'webhook')} could not be handled in ten minutes",
            "Look for ERROR in the log of the service that receives them.",
        )


def _unseen(view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    number, age = view["unseen"], view["unseen_age"]
    if not number or age is None or _is_younger(view["event_age"], age):
        return
    rings = f"{_some(number, 'ring')} ended"
    last_event = view["webhooks"]["last_age"]
    if not _is_younger(last_event, max(age, _JUST_NOW)):
        yield _trouble(
            "webhook",
            WARNING,
            "no webhooks",
            f"Webhooks don't arrive: {rings} without any event from Plivo",
            "Customers come back to their agents, as nobody sees who answers. Check"
            " that Plivo reaches the callback URL (DNS, certificate, proxy), and that"
            " what receives it runs.",
            event=last_event,
            such_ring=age,
        )
    elif age < _FORGOTTEN:
        yield _trouble(
            "webhook_gaps",
            WARNING,
            "rings unheard",
            f"{rings} without an event of their calls; events of other calls arrive",
            "If no more such rings come, webhooks are back. Else check the callback URL"
            " of those calls' PHLO, and that each process gets the events of its own.",
            event=last_event,
            such_ring=age,
        )


def _is_younger(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)


def _quota(account: Mapping[str, Any], whose: str) -> Iterator[dict[str, Any]]:
    refused = sum(account["refused"][-_RECENT:])
    limit, age = account["limit"], account["refused_age"]
    if not refused:
        return
    since = _NOW if age is None else age  # an older process doesn't tell
    times = f"{_some(refused, 'request')} refused (429) in two minutes"
    if _is_eaten(account, _RECENT):
        spends = "spends" if since < _NOW else "spent"
        yield _trouble(
            "quota_eaten",
            WARNING,
            "foreign traffic",
            f"Something else {spends} the quota{whose}: {times}, while less"
            f" than {limit:.1f}/s leaves here",
            "Find what else sends with this account: another program, a process without"
            " the coordinator, a subaccount. Or give this one a lower quota.",
            **_last_429(age),
        )
    else:
        yield _trouble(
            "throttled",
            WARNING,
            "quota too high",
            f"Plivo grants less than the quota{whose} that is set: {times}",
            "Lower the quota.",
            **_last_429(age),
        )


def _is_eaten(account: Mapping[str, Any], slices: int) -> bool:
    """Say whether others spent the quota in so many slices, the latest."""
    limit = account["limit"]
    # Of the slices with a 429: in these the quota was spent, by whomever.
    pairs = zip(
        account["requests"][-slices:], account["refused"][-slices:], strict=True
    )
    own = [(sent - no) / account["slice_seconds"] for sent, no in pairs if no]
    return limit is not None and bool(own) and max(own) < limit * _SPENT_BY_US


def _last_429(age: float | None) -> dict[str, float]:
    return {} if age is None else {"429": age}


_WHY: Final = {
    "rejected 401": (
        "credentials",
        "Plivo refuses the credentials",
        "Check auth_id and auth_token.",
    ),
    "rejected 403": (
        "credentials",
        "Plivo refuses the credentials",
        "Check the account's rights.",
    ),
    "not_sent unreachable": (
        "Plivo away",
        "Plivo can't be reached",
        "Check network, DNS and proxy of this machine, and Plivo's status page.",
    ),
    "not_sent misconfigured": (
        "Plivo away",
        "Plivo can't be reached, and no further try will change that",
        "Check the host's name, the proxy, and the certificates.",
    ),
    "not_sent expired": (
        "expired",
        "what could not leave in time was not sent",
        "More is asked for than the quota grants: raise send_within, or send less.",
    ),
    "not_sent out_of_files": (
        "out of files",
        "no file is left for a connection",
        "Raise ulimit -n.",
    ),
}


_EATEN_TODO: Final = (
    "Something else has spent the quota: find what sends with this account."
)


def _refusals(account: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for reason, (short, what, todo) in _WHY.items():
        if number := account["reasons"].get(reason):
            if short == "expired" and _is_eaten(account, len(account["requests"])):
                todo = _EATEN_TODO  # noqa: PLW2901 -- of this account alone
            yield _trouble(
                reason.replace(" ", "_"),
                WARNING,
                short,
                f"{account['account']}: {what} ({_some(number, 'action')} in ten"
                " minutes)",
                todo,
            )


def _doubts(view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Name them where they are unusual; the table has each of them anyway."""
    verdicts = [account["verdicts"] for account in view["accounts"]]
    number = sum(counted["in_doubt"] for counted in verdicts)
    ended = sum(sum(counted.values()) for counted in verdicts)
    if number >= _MANY_DOUBTS and number >= ended * _DOUBTED:
        yield _trouble(
            "in_doubt",
            WARNING,
            "many in doubt",
            f"{number} of {_some(ended, 'action')} in doubt in ten minutes: dials among"
            " them may have rung",
            "Look them up in Plivo's call log before anybody sends them again.",
        )


def _processes(view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for process in view["processes"]:
        if process["coordinator"] == "away":
            yield _trouble(
                "coordinator",
                WARNING,
                "coordinator away",
                f"{process['name']} doesn't reach the coordinator's database: it goes"
                " on by itself, with its share of the quota",
                "Check that Postgres runs and can be reached from that machine. What"
                " other processes do, and who is on hold there, isn't seen here"
                " meanwhile.",
            )
        if process["silent"]:
            yield _trouble(
                "process",
                WARNING,
                "silent process",
                f"{process['name']} says nothing any more",
                "It may hang, or be cut off; its figures here are old.",
                sign=process["age"],
            )


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
