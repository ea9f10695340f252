"""The texts that `aiophlo batch` prints before, during and after a run."""

from collections.abc import Mapping

from aiophlo.cli.terminal_text import duration, number_of
from aiophlo.model.accounts import Quota
from aiophlo.model.outcomes import VERDICTS

CALLS_PER_SECOND = 2.0  # Plivo docs, "Account limits": outbound calls by default
_SENDABLE_LATER = {
    "expired",
    "misconfigured",
    "no_budget",
    "out_of_files",
    "stale_connection",
    "stopped",
    "throttled",
    "unreachable",
}


def forecast(
    rows: int, quota: Quota | None, calls_per_second: float | None
) -> tuple[float, float]:
    """Return how long sending takes, and how long the last call would queue.

    Args:
        rows: Transfers to send.
        quota: What the account may make; None for no limit.
        calls_per_second: What is asked for besides; None for no such pace.

    Returns:
        Seconds of sending, and seconds that the last of the calls would wait
        at Plivo if each transfer counts as an outbound call.

    Source:
        Plivo docs, "Account limits": 2 outbound calls per second, queued above
        that. Whether a transfer counts as one is unknown.
    """
    interval = max(
        quota.interval if quota else 0.0,
        1 / calls_per_second if calls_per_second else 0.0,
    )
    sending = rows * interval
    return sending, max(rows / CALLS_PER_SECOND - sending, 0.0)


def plan(
    rows: int, done: int, quota: Quota | None, calls_per_second: float | None
) -> list[str]:
    """Return what is about to happen, and how long it will take.

    Args:
        rows: Transfers in the file.
        done: How many of these have been settled before.
        quota: What the account may make; None for no limit.
        calls_per_second: What is asked for besides; None for no such pace.
    """
    left = max(rows - done, 0)
    if not rows:
        return ["No transfers"]
    if not left:
        return [f"{number_of(rows, 'transfer')}, all settled before"]
    all_of_them = number_of(rows, "transfer")
    before = f", {done} of them settled before" if done else ""
    sending, queue = forecast(left, quota, calls_per_second)
    if not sending:
        return [f"{all_of_them}{before}: as fast as it goes, without a quota"]
    pace = f"{left / sending:.1f} per second"
    lines = [f"{all_of_them}{before}: {duration(sending)} at {pace}"]
    if queue > 1:
        lines.append(
            "If Plivo counts transfers as outbound calls"
            f" ({CALLS_PER_SECOND:g} per second), the last one will queue for"
            f" {duration(queue)} before it rings;"
            f" --calls-per-second {CALLS_PER_SECOND:g} sends no faster than that"
        )
    return lines


def repeats_left_out(rows: int) -> list[str]:
    """Return what is said of rows that equal earlier ones."""
    if not rows:
        return []
    asks = "row asks" if rows == 1 else "rows ask"
    line = f"{rows} {asks} for the same transfer as an earlier one: not sent again"
    return [f"{line}, unless with --allow-repeats"]


def counted(verdicts: Mapping[str, int]) -> str:
    """Return how many have each verdict."""
    return ", ".join(
        f"{verdicts.get(verdict, 0)} {verdict.replace('_', ' ')}"
        for verdict in VERDICTS
    )


def advice(
    verdicts: Mapping[str, int], reasons: Mapping[str, int], *, shared: bool
) -> list[str]:
    """Return what to do about the rows that weren't accepted.

    Args:
        verdicts: Rows by verdict.
        reasons: Rows by what they were not sent or are in doubt for.
        shared: The journal may have other runners, and is in no file.
    """
    lines = []
    if verdicts.get("in_doubt"):
        look = "" if shared else " let --resolve look in its list of calls,"
        lines.append(
            f"{verdicts['in_doubt']} in doubt: their requests left and no clear answer"
            f" came back, so a phone may have rung. Look in Plivo's logs,{look} or ask"
            " the agents. They are not sent again, unless with --include-in-doubt,"
            " which may ring a phone twice."
        )
    later = sum(reasons.get(reason, 0) for reason in _SENDABLE_LATER)
    if later:
        others = ", unless another runner has" if shared else ""
        lines.append(
            f"{later} not sent: nothing rang. The same command with the same journal"
            f" sends them{others}."
        )
    if verdicts.get("rejected"):
        lines.append(
            f"{verdicts['rejected']} rejected: Plivo said no, nothing rang. Correct"
            " them in a file of their own; the same again is refused again."
        )
    return lines
