"""The snapshots of several processes as one. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiophlo.model.actions import Lane
from aiophlo.wallboard.figures import SLICE, SLICES, percentile
from aiophlo.wallboard.troubles import troubles

_SHARES: Final = {"p50": 0.5, "p99": 0.99}
_SILENT: Final = 3.0  # seconds; each tells the others once a second
_GONE: Final = 15.0  # seconds after which a silent process is left out
_MOST: Final = 50
_SUMS: Final = ("in_flight", "joined")
_LANES: Final = tuple(lane.name.lower() for lane in Lane)
_COUNTS: Final = ("waiting", "verdicts", "reasons", "waits", "answers")


def merged(parts: Iterable[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """Return what the page shows.

    Args:
        parts: The snapshot of each process, as `Wallboard.part` gives it; an older
            aiophlo's, while a new one is rolled out, has no `notice` and fewer ages.
        now: Unix time.
    """
    parts = [part for part in parts if now - part["at"] < _GONE]
    accounts: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        for account in part["accounts"]:
            accounts.setdefault(account["account"], []).append(account)
    on_hold = _customers(parts)
    view: dict[str, Any] = {
        "at": round(now, 3),
        "notice": next(filter(None, (part.get("notice") for part in parts)), ""),
        "accounts": [_account(found, now) for _, found in sorted(accounts.items())],
        "phases": _phases(parts),
        "handovers": _oldest(part["handovers"] for part in parts),
        "on_hold": _oldest([on_hold]),
        "on_hold_number": len(on_hold),
        "in_doubt": sorted(_all(parts, "in_doubt"), key=_age)[:_MOST],
        "unseen": sum(part["unseen"] for part in parts),
        "unseen_age": _least(part.get("unseen_age") for part in parts),
        "event_age": _least(part.get("event_age") for part in parts),
        "webhooks": _webhooks([part["webhooks"] for part in parts]),
        "processes": [
            _process(part, now)
            for part in sorted(parts, key=lambda part: str(part["name"]))
        ],
    }
    return {**view, "troubles": troubles(view)}


def _account(found: Sequence[Mapping[str, Any]], now: float) -> dict[str, Any]:
    last = int(now // SLICE)
    newest = max(found, key=lambda one: one["slice"])
    sums = {name: _added(one[name] for one in found) for name in _COUNTS}
    waits, answers = sums.pop("waits"), sums.pop("answers")
    sums["waiting"] = dict(sorted(sums["waiting"].items(), key=_place))
    paces = [one["pace"] for one in found if one["pace"] is not None]
    return {
        "account": newest["account"],
        "owner": newest["owner"],
        "limit": newest["limit"],
        # With a coordinator all have one pace; without, each goes on by itself.
        "pace": min(paces, default=None),
        "paused_for": max(one["paused_for"] for one in found),
        "slice_seconds": SLICE,
        "requests": _rows(found, "requests", last),
        "refused": _rows(found, "refused", last),
        "refused_age": _least(one.get("refused_age") for one in found),
        **{name: sum(one[name] for one in found) for name in _SUMS},
        **sums,
        "wait": _percentiles(waits),
        "answer": _percentiles(answers),
    }


def _rows(found: Sequence[Mapping[str, Any]], name: str, last: int) -> list[int]:
    """Add up rows of slices, which may end at different ones."""
    total = [0] * SLICES
    for one in found:
        behind = last - one["slice"]
        for index, count in enumerate(one[name]):
            if 0 <= index - behind < SLICES:
                total[index - behind] += count
    return total


def _process(part: Mapping[str, Any], now: float) -> dict[str, Any]:
    age = max(now - part["at"], 0.0)
    return {
        "name": part["name"],
        "age": round(age, 1),
        "silent": age > _SILENT,
        "coordinator": part["coordinator"],
    }


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for one in counts:
        total.update(one)
    return dict(total)


def _place(lane: tuple[str, int]) -> int:
    """Return where a lane stands; one of a newer aiophlo last."""
    return _LANES.index(lane[0]) if lane[0] in _LANES else len(_LANES)


def _percentiles(classes: Mapping[str, int]) -> dict[str, float | None]:
    numbers = {int(number): count for number, count in classes.items()}
    return {name: percentile(numbers, share) for name, share in _SHARES.items()}


def _phases(parts: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    phases: dict[str, dict[str, float]] = {}
    for part in parts:
        for phase, told in part["phases"].items():
            known = phases.setdefault(phase, {"number": 0, "oldest": 0.0})
            known["number"] += told["number"]
            known["oldest"] = max(known["oldest"], told["oldest"])
    return phases


def _customers(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each customer once; another process may have tried to help them, too."""
    found: dict[str | int, dict[str, Any]] = {}
    for one in sorted(_all(parts, "on_hold"), key=_age):
        known = {name: value for name, value in one.items() if value != ""}
        # Several may be masked alike.
        name = len(found) if "…" in one["id"] else one["id"]
        found[name] = {**one, **found.get(name, {}), **known}
    return list(found.values())


def _webhooks(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "heard": any(one["heard"] for one in told),
        "results": _added(one["results"] for one in told),
        "last_age": _least(one["last_age"] for one in told),
    }


def _least(ages: Iterable[float | None]) -> float | None:
    return min((age for age in ages if age is not None), default=None)


def _all(parts: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    return [one for part in parts for one in part[name]]


def _age(one: Mapping[str, Any]) -> float:
    return float(one["age"])


def _oldest(rows: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    found = [one for row in rows for one in row]
    return sorted(found, key=_age, reverse=True)[:_MOST]
