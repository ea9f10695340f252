"""The page of a day: its verdicts, and a timeline of everything that happened."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from benchmarks.day.drawing import timeline
from benchmarks.day.evidence import Asked, Evidence, Kind
from benchmarks.day.judge import Line

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1d2430; --soft: #5d6675;
  --rule: #d9d5cc; --card: #ffffff; --good: #1a7f4b; --bad: #c02b2b; --ours: #2b6cb0;
  --warn: #b7791f; --quiet: #7b8794; --strange: #7c4dbd; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e8ec;
  --soft: #9aa4b2; --rule: #2e3540; --card: #1b2027; --good: #4cc38a; --bad: #ff6b6b;
  --ours: #6cb2f5; --warn: #e3b341; --quiet: #8b98a8; --strange: #b794f4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 40px 0 10px; }
p { max-width: 78ch; margin: 6px 0; } .soft, small { color: var(--soft); }
.sum { display: inline-block; margin: 16px 0 4px; padding: 6px 14px; font-weight: 600;
  border-radius: 6px; color: var(--paper); background: var(--good); }
.sum.bad { background: var(--bad); }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; }
svg { display: block; min-width: 900px; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 8px 14px;
  border-top: 1px solid var(--rule); }
thead th { border-top: 0; font-size: 13px; color: var(--soft); font-weight: 600; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td small { display: block; } .kept, .broken, td.soft { white-space: nowrap; }
.kept { color: var(--good); font-weight: 600; }
.broken { color: var(--bad); font-weight: 700; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .name { fill: var(--ink); } .axis { stroke: var(--rule); }
.lane { fill: var(--rule); opacity: 0.35; } .outage { fill: var(--bad); opacity: 0.08; }
.ours { fill: var(--ours); stroke: var(--ours); } .good { fill: var(--good); }
.bad { fill: var(--bad); stroke: var(--bad); } .warn { fill: var(--warn); }
.quiet { fill: var(--quiet); } .strange { fill: var(--strange); }
.area { fill: var(--ours); opacity: 0.35; } .line { fill: none; stroke: var(--ours); }
.quota { stroke: var(--soft); stroke-dasharray: 4 4; } .cross { stroke-width: 2; }
"""
_MEANT: Final = {
    "accepted": "it rings, or the partner has the customer",
    "not_sent": "nothing rings: the agent may click again",
    "in_doubt": "a phone may be ringing: look before asking again",
    "rung": "was rung, and nobody took the call: the customer is with the agent",
    "rejected": "Plivo said no",
    "": "no answer: the connection ended",
}


def draw(evidence: Evidence, lines: Sequence[Line]) -> str:
    """Draw the page of a day: one file that needs no other."""
    broken = sum(line.kept is False for line in lines)
    judged = sum(line.kept is not None for line in lines)
    verdict = (
        f"{broken} of {judged} promises broken"
        if broken
        else f"all {judged} promises kept"
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in evidence.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A call centre's day: {verdict}</title><style>{_STYLE}</style></head>
<body><main>
<h1>A call centre's day in {evidence.minutes:g} minutes</h1>
<p class="soft">{_what_it_was(evidence)}</p>{notes}
<p class="sum{" bad" if broken else ""}">{verdict}</p>
<h2>The day</h2>
<div class="wide">{timeline(evidence)}</div>
<h2>What was promised</h2>
<div class="wide"><table><thead><tr><th></th><th>found</th><th>promise</th></tr></thead>
<tbody>{"".join(map(_row, lines))}</tbody></table></div>
<h2>What agents were answered</h2>
<div class="wide">{_answers(evidence.asked)}</div>
</main></body></html>
"""


def _what_it_was(evidence: Evidence) -> str:
    count = Counter(mark.kind for mark in evidence.marks)
    heard, sent = evidence.webhooks
    return (
        f"Seed {evidence.seed}. Six workers behind gunicorn on hosts"
        f" {escape(' and '.join(evidence.hosts))}, one Postgres, one account."
        f" {len(evidence.conversations):,} calls, {len(evidence.asked):,} requests to"
        f" the service, {len(evidence.requests):,} to Plivo,"
        f" {len(evidence.campaign):,} rows in the campaign. {heard:,} of {sent:,}"
        f" events reached a worker, one in ten late, one in ten twice."
        f" {count[Kind.KILL]} workers killed, {count[Kind.DEPLOY]} hosts renewed, the"
        f" database down {count[Kind.DATABASE]} times."
    )


def _row(line: Line) -> str:
    sign = {
        True: '<td class="kept">✓ kept</td>',
        False: '<td class="broken">✗ broken</td>',
        None: '<td class="soft">figure</td>',
    }[line.kept]
    told = "".join(f"<small>{escape(sentence)}</small>" for sentence in line.told)
    return (
        f'<tr>{sign}<td class="n">{escape(line.found)}</td>'
        f"<td>{escape(line.promise)}{told}</td></tr>"
    )


def _answers(asked: Iterable[Asked]) -> str:
    counts = Counter((one.what, one.verdict, one.error) for one in asked)
    rows = "".join(
        f"<tr><td>{escape(what)}</td><td>{escape(verdict or 'none')}</td>"
        f'<td>{escape(error)}</td><td class="n">{count:,}</td>'
        f"<td>{escape(_MEANT.get(verdict, ''))}</td></tr>"
        for (what, verdict, error), count in sorted(counts.items())
    )
    heads = "".join(
        f"<th>{name}</th>" for name in ("asked for", "verdict", "error", "times", "")
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
