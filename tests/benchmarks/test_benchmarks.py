"""The benchmarks' arithmetic, and that no page can drift from its figures."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

import benchmarks
from aiophlo.simulator import Simulator
from benchmarks import __main__ as command
from benchmarks.clients import raw
from benchmarks.clients.hand_tuned import HandTunedClient
from benchmarks.harness import instructions, machine, nginx
from benchmarks.harness.budgets import VERDICT, Budget, budgets
from benchmarks.harness.certificates import Certificates, issued
from benchmarks.harness.figures import Spread, quantile, ratio, settled_use, spread
from benchmarks.harness.lab import ROOT, Lab, words_for
from benchmarks.harness.load import Load
from benchmarks.harness.report import digest, docs_section, readme_section, whole_report
from benchmarks.harness.sections import (
    BEGIN,
    END,
    MarkersError,
    replace_section,
    section_of,
)
from benchmarks.harness.slices import add_alone, rounds_side_by_side, side_by_side
from benchmarks.questions import cpu as cpu_question
from benchmarks.questions import growth, importing

pytestmark = pytest.mark.long

ROWS = [
    {"client": "hand-tuned aiohttp", "round": 0, "cpu_us": 100.0},
    {"client": "aiophlo", "round": 0, "cpu_us": 110.0},
    {"client": "hand-tuned aiohttp", "round": 1, "cpu_us": 200.0},
    {"client": "aiophlo", "round": 1, "cpu_us": 210.0},
    {"client": "aiophlo", "round": 2, "cpu_us": 999.0},
]
PAGE = f"# aiophlo\n\n{BEGIN}\nold\n{END}\n\n## More\n"


def report(**questions: dict[str, Any]) -> dict[str, Any]:
    """Return a small report."""
    answers = {
        "cpu": cpu(),
        "tls": cpu(),
        "connections": connections(),
        "memory": memory(),
        "pacing": pacing(),
        "duplicates": duplicates(),
        "growth": {"rows": queues(million=115.0)},
        **questions,
    }
    return {
        "quick": False,
        "questions": {name: {"run": run(), **it} for name, it in answers.items()},
    }


def run(others: float | None = 0.3, cores: int = 2) -> dict[str, Any]:
    """Return what is known of one question's run."""
    return {
        "finished": "2026-11-23T01:00:00+00:00",
        "took_seconds": 60,
        "others": others,
        "machine": {
            "processor": "Example",
            "cores": cores,
            "memory_gib": 8.0,
            "system": "Linux 6",
            "python": "3.11.7",
        },
        "versions": {"aiohttp": "3.14.5"},
    }


def cpu() -> dict[str, Any]:
    """Return measurements of a few clients over two rounds."""
    costs = {
        "hand-tuned aiohttp": 100.0,
        "aiophlo": 105.0,
        "aiophlo, streamed": 115.0,
        "aiophlo, with journal": 140,
        "hand-tuned aiohttp, uvloop": 70.0,
        "aiophlo, uvloop": 77.0,
    }
    rows = [
        {
            "client": client,
            "round": turn,
            "cpu_us": cost * (turn + 1),
            "per_second": 1e6 / cost,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "peak_mib": 40.0,
            "instructions": cost * 3_000.0,
        }
        for turn in range(2)
        for client, cost in costs.items()
    ]
    return {"in_flight": 100, "transfers": 1_000, "left_out": {}, "rows": rows}


def connections() -> dict[str, Any]:
    """Return what open connections took: 256 KiB each, and 50 MiB besides."""
    rows = [
        {
            "client": "aiophlo, TLS",
            "in_flight": number,
            "resident_mib": 50.0 + number / 4,
        }
        for number in (100, 1_000, 10_000)
    ]
    return {"few": 100, "rows": rows}


def duplicates(*, rung_twice: int = 0) -> dict[str, Any]:
    """Return what one client made ring."""
    row = {
        "client": "aiophlo",
        "told": {
            "accepted": 990,
            "rejected": 0,
            "not_sent": 1,
            "in_doubt": 9,
            "failed": 0,
        },
        "requests": 1_020,
        "rung": 995,
        "rung_twice": rung_twice,
        "told_wrong": 0,
    }
    return {"transfers": 1_000, "faults": {"reset": 0.01}, "seed": 1, "rows": [row]}


def memory() -> dict[str, Any]:
    """Return what two streams took."""
    rows = [
        {
            "client": "stream",
            "transfers": transfers,
            "before_mib": 38.0,
            "peak_mib": 38.0 + transfers / 1e6,
        }
        for transfers in (1_000_000, 1_000)
    ]
    return {"concurrency": 200, "rows": rows}


def pacing() -> dict[str, Any]:
    """Return how a quota was kept, in two rounds of either jitter."""
    rows = [
        {
            "client": "aiophlo",
            "round": turn,
            "jitter": jitter,
            "use": 0.99 - turn / 1_000 - jitter / 10,
            "admitted": 1_900,
            "refused": turn,
        }
        for jitter in (0.0, 0.05)
        for turn in range(2)
    ]
    return {"limit": 300, "per": 5.0, "rows": rows}


def imports() -> list[dict[str, Any]]:
    """Return what importing costs."""
    return [
        {
            "client": client,
            "round": 0,
            "cpu_ms": cost,
            "wall_ms": cost,
            "resident_mib": 30.0,
        }
        for client, cost in (("aiohttp", 150.0), ("aiophlo", 160.0))
    ]


def queues(*, million: float) -> list[dict[str, Any]]:
    """Return what queues cost, the longest beside one of 10,000 in a slow hour."""
    costs = (
        ("streamed", 1_000, 0, 90.0),
        ("streamed", 10_000, 0, 60.0),
        ("streamed", 10_000, 1, 100.0),
        ("streamed", 10**6, 1, million),
        ("awaited", 10_000, 0, 50.0),
    )
    return [
        {
            "client": f"{way}, {queued:,}",
            "way": way,
            "queued": queued,
            "round": number,
            "cpu_us": cost,
        }
        for way, queued, number, cost in costs
    ]


def test_spread_is_median_and_extremes() -> None:
    """A reader who sees one lucky round would be misled."""
    assert spread(ROWS, "aiophlo", "cpu_us") == Spread(210.0, 110.0, 999.0)


def test_spread_of_nothing_is_refused() -> None:
    """A client that was not measured must not show up as a figure."""
    with pytest.raises(ValueError, match="one value or more"):
        spread(ROWS, "httpx", "cpu_us")


def test_ratios_are_paired_by_round() -> None:
    """A slow minute of the machine would pass for a slow client."""
    found = ratio(ROWS, "aiophlo", "hand-tuned aiohttp", "cpu_us")
    assert (found.low, found.high) == (1.05, 1.10)
    assert found.median == pytest.approx(1.075)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    """A tail that nobody met would be shown to the reader."""
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_quantile_of_nothing_is_refused() -> None:
    """An empty measurement must not pass for a fast one."""
    with pytest.raises(ValueError, match="one value or more"):
        quantile([], 0.5)


@pytest.mark.parametrize("times", [[0, 0, 5, 5, 10, 10], [0, 2, 5, 7.5, 10, 14.9, 15]])
def test_bursts_and_even_sending_count_the_same(times: list[float]) -> None:
    """Pacing would look better or worse by where the clock happens to stop."""
    found = settled_use(times, first=0.0, limit=2, per=5.0, periods=2)
    assert found == 1.0


def test_budget_holds_as_it_is_written() -> None:
    """A reader who sees 1.10 beside 1.10 must not be told that it fails."""
    assert Budget("cpu", 1.10, 1.104, "{:.2f}").holds
    assert not Budget("cpu", 1.10, 1.106, "{:.2f}").holds


def test_floor_is_missed_from_below() -> None:
    """An account that wastes its quota must not be told that all is well."""
    missed = Budget("used", 98.0, 49.0, "{:.1f} %", least=True)
    assert not missed.holds
    assert missed.missed_by == "50.0%"
    assert Budget("used", 98.0, 98.7, "{:.1f} %", least=True).holds


def test_bound_of_none_is_missed_by_what_was_measured() -> None:
    """Three phones and three thousand would read the same."""
    assert Budget("rung twice", 0.0, 3.0, "{:.0f}").missed_by == "3"


def test_memory_is_held_to_millions_of_bytes() -> None:
    """A machine with the memory that was promised would run out of it."""
    rows = [{"client": "stream", "transfers": 1_000_000, "peak_mib": 59.0}]
    [budget] = budgets({"memory": {"rows": rows}})
    assert budget.show(budget.measured) == "61.9 MB"
    assert not budget.holds


PACED = [
    {"client": "aiophlo", "round": number, "jitter": 0.05, "use": use, "refused": no}
    for number, (use, no) in enumerate([(0.99, 0), (0.97, 2), (0.985, 0)])
]


def test_pacing_is_held_to_its_worst_round() -> None:
    """An account that is refused every third time would be told that it never is."""
    used, refused = budgets({"pacing": {"rows": PACED}})
    assert (used.show(used.measured), used.holds) == ("97.0 %", False)
    assert (refused.measured, refused.holds) == (2, False)
    used, refused = budgets({"pacing": {"rows": [PACED[0], PACED[2]]}})
    assert used.holds
    assert refused.holds


def test_pacing_is_held_to_what_it_was_told_of() -> None:
    """Arrivals later than the quota allows for are refused, as they must be."""
    rows = [
        {**row, "jitter": 0.2, "client": client, "use": use}
        for row in PACED
        for client, use in (("aiophlo", 0.5), ("aiophlo, told the jitter", 0.96))
    ]
    used, _ = budgets({"pacing": {"rows": rows}})
    assert used.show(used.measured) == "96.0 %"
    assert "as it was told" in used.promise


def test_pacing_is_shown_with_the_rounds_that_went_worse() -> None:
    """A reader who sees one lucky round would be misled."""
    shown = whole_report(report(pacing={"rows": PACED}))
    line = "| aiophlo | 50 ms | 98.5% (97.0% to 99.0%) | 0 (0 to 2) |"
    assert line in shown


def test_phone_that_rang_twice_breaks_a_budget() -> None:
    """The one promise that matters must be able to fail."""
    found = {
        budget.promise: budget.holds
        for budget in budgets({"duplicates": duplicates(rung_twice=1)})
    }
    assert found["phones rung twice under faults"] is False


@pytest.mark.parametrize(("million", "holds"), [(110.0, True), (115.0, False)])
def test_long_stream_is_held_to_what_ran_beside_it(
    *, million: float, holds: bool
) -> None:
    """A slow hour would pass for a stream that slows down, or hide one."""
    budget, awaited = budgets({"growth": {"rows": queues(million=million)}})
    assert "awaited" in awaited.promise
    assert budget.measured == million / 100.0
    assert budget.holds is holds


def test_long_stream_that_ran_alone_is_no_figure() -> None:
    """A ratio of two hours of the machine would be believed."""
    rows = queues(million=100.0)
    rows[3]["round"] = 7
    with pytest.raises(ValueError, match="one value or more"):
        budgets({"growth": {"rows": rows}})


def test_section_goes_between_the_markers_alone() -> None:
    """Whoever wrote the rest of the page would lose it."""
    changed = replace_section(PAGE, "new")
    assert section_of(changed) == "\nnew\n"
    assert changed.replace("new", "old") == PAGE
    assert replace_section(changed, "new") == changed


@pytest.mark.parametrize("page", ["# aiophlo", f"{END}{BEGIN}", PAGE + PAGE, BEGIN])
def test_page_without_its_markers_is_refused(page: str) -> None:
    """Figures would end up in the middle of somebody's words."""
    with pytest.raises(MarkersError):
        replace_section(page, "new")


def test_docs_show_ratio_to_the_yardstick() -> None:
    """A reader compares with what a good client costs at best."""
    section = docs_section(report())
    line = "| aiophlo | 1.05 | 1.05 | 1.10 | 1.10 | 315,000 | 315,000 |"
    assert line in section


def test_missed_budget_is_shown_with_each_round_and_its_instructions() -> None:
    """One lucky round, or a busy neighbour, would pass for what it costs."""
    missed = "| 1.05 | 1.05, 1.05 | 1.05 | **no**, by 75.0% |"
    assert f"awaited, times the yardstick | ≤ 0.60 {missed}" in docs_section(report())


def test_layers_tell_what_each_adds() -> None:
    """Whoever makes it cheaper would begin at the wrong end."""
    shown = docs_section(report())
    assert "a stream: its turn and what stops it | 30,000 | 0.10 | 30,000 |" in shown
    assert "| the action, its JSON, its verdict |  |  |  |  |" in shown  # not counted


def test_instructions_that_nobody_counted_are_not_shown() -> None:
    """Without valgrind, a reader would take a gap for a figure."""
    uncounted = cpu()
    for row in uncounted["rows"]:
        del row["instructions"]
    shown = docs_section(report(cpu=uncounted))
    assert "| aiophlo | 1.05 | 1.05 | 1.10 | 1.10 |  | 315,000 |" in shown


def test_machine_that_was_not_quiet_is_told() -> None:
    """A reader would believe microseconds that a neighbour has stretched."""
    shown = docs_section(report(pacing={**pacing(), "run": run(others=0.7)}))
    assert "others used 30% to 70% of its processor" in shown


def test_quiet_machine_is_not_blamed() -> None:
    """Whoever looks for the reason of a bad figure would stop too early."""
    quiet = report()
    for one in quiet["questions"].values():
        one["run"] = run(others=0.04)
    quiet["questions"]["cpu"]["run"] = run(others=None)
    assert "not quiet" not in docs_section(quiet)
    assert "| cpu | 2026-11-23T01:00:00+00:00 | 60 | not noted |" in whole_report(quiet)


def test_figures_of_two_machines_say_which_is_whose() -> None:
    """A reader would compare the speed of two processors."""
    shown = docs_section(report(pacing={**pacing(), "run": run(cores=64)}))
    assert "pacing: Example, 64 cores, 8.0 GiB" in shown
    assert "cpu, tls, connections, memory, duplicates, growth: Example, 2" in shown


def test_memory_of_a_connection_is_what_more_of_them_add() -> None:
    """Fifty megabytes of imports would be told as the connections'."""
    assert "| aiophlo, TLS | 256 | 256 | 2,550 |" in docs_section(report())


def test_client_that_was_left_out_is_told_with_its_reason() -> None:
    """A peer that looks bad could just be missing."""
    answer = {**cpu(), "left_out": {"niquests": "niquests is not installed"}}
    told = "niquests was left out: niquests is not installed."
    assert told in whole_report(report(cpu=answer))


def test_uvloop_is_compared_with_the_yardstick_on_uvloop() -> None:
    """What the event loop saves would pass for what the client saves."""
    beside = "| 1.10 | hand-tuned aiohttp, uvloop |"
    assert f"| aiophlo, uvloop {beside}" in whole_report(report())


def test_growth_is_shown_as_paired_ratios_of_all_lengths() -> None:
    """A reader would compare what two hours of the machine cost."""
    shown = whole_report(report())
    assert "| streamed, 1,000 | 90 | 1.50 |" in shown
    assert "| streamed, 10,000 | 80 (60 to 100) | 1.00 |" in shown
    assert "| streamed, 1,000,000 | 115 | 1.15 |" in shown
    assert "| streamed, 1,000,000 | 115 | 1.15 |" in docs_section(report())


def test_readme_shows_three_figures_at_their_worst() -> None:
    """Who decides by the first page must not be shown the best round."""
    section = readme_section(report(duplicates=duplicates(rung_twice=2)))
    rung, quota, most = section.splitlines()
    assert rung == "- Phones rung twice in 1,000 transfers under faults: **2**."
    assert quota.endswith("50 ms late: **98.4%**, with 1 requests refused.")
    assert most.endswith("streams 1,000,000 transfers: **39.0 MiB**.")


def test_every_page_that_shows_figures_is_checked() -> None:
    """A page that is passed over would go on showing figures of an older run."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert {page for page in pages if BEGIN in page.read_text()} == set(command.PAGES)


def test_digest_tells_reports_apart() -> None:
    """A plot of another run would pass for this one's."""
    one, other = report(), report(duplicates=duplicates(rung_twice=1))
    assert digest(one) == digest(json.loads(json.dumps(one)))
    assert digest(one) != digest(other)


def test_check_finds_what_differs_from_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure edited by hand, or a plot of another run, would be believed."""
    monkeypatch.setattr(command, "ROOT", tmp_path)
    kept = report()
    page = tmp_path / "page.md"
    plot, other = tmp_path / "cpu.svg", tmp_path / "duplicates.svg"
    (tmp_path / command.DATA).write_text(json.dumps(kept))
    (tmp_path / command.TEXT).write_text(whole_report(kept))
    page.write_text(replace_section(PAGE, docs_section(kept)))
    drawn = f"<svg>{digest(kept)} 1,696</svg>"
    for one in (plot, other):
        one.write_text(drawn)
    sums = dict.fromkeys((plot.name, other.name), sha256(drawn.encode()).hexdigest())
    (tmp_path / command.PLOTS).write_text(json.dumps(sums))
    assert command.check(tmp_path, {page: docs_section}) == 0
    for changed, to in (
        (other, "<svg>another</svg>"),
        (other, drawn.replace("1,696", "9,999")),
        (other, None),  # though the page shows it
        (plot, None),
        (tmp_path / command.TEXT, whole_report(kept).replace("1.05", "1.01")),
        (tmp_path / command.TEXT, None),
        (page, page.read_text().replace("1.05", "1.01")),
    ):
        before = changed.read_text()
        if to is None:
            changed.unlink()
        else:
            assert to != before
            changed.write_text(to)
        assert command.check(tmp_path, {page: docs_section}) == 1
        changed.write_text(before)
        assert command.check(tmp_path, {page: docs_section}) == 0


def test_check_says_so_when_nothing_is_kept(tmp_path: Path) -> None:
    """A figure without any measurement behind it would be believed."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(command.NothingKeptError, match="is kept: run"):
        command.check(tmp_path, {page: docs_section})


def test_what_is_missing_is_found_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever lacks one package would lose twenty minutes of measuring."""
    measured: list[Lab] = []
    monkeypatch.setattr(importing, "measure", measured.append)
    monkeypatch.setitem(sys.modules, "benchmarks.harness.plots", None)
    with pytest.raises(ImportError):
        command.measure(["importing"], quick=True)
    assert not measured


@pytest.fixture
def kept_locally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write to a folder of this test, without any plot."""
    plots = SimpleNamespace(draw=lambda report, folder: None)  # noqa: ARG005 -- its face
    monkeypatch.setitem(sys.modules, "benchmarks.harness.plots", plots)
    monkeypatch.setattr(benchmarks, "plots", plots, raising=False)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "LOCAL", tmp_path / "local")
    return tmp_path / "local"


@pytest.mark.parametrize(
    "failure", [RuntimeError("a client failed"), KeyboardInterrupt]
)
def test_what_was_measured_is_kept_when_a_later_question_fails(
    failure: Exception | type[BaseException],
    kept_locally: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twenty minutes of measuring would be lost to the last client."""

    def fail(_: Lab) -> None:
        raise failure

    kept_locally.mkdir()
    (kept_locally / "cpu.svg").write_text("of another run")
    monkeypatch.setattr(importing, "measure", lambda _: {"rows": imports()})
    monkeypatch.setattr(growth, "measure", fail)
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        command.measure(["importing", "growth"], quick=True)
    kept = json.loads((kept_locally / command.DATA).read_text())
    assert kept["questions"]["importing"].pop("run").keys() == run().keys()
    assert kept["questions"] == {"importing": {"rows": imports()}}
    kept = json.loads((kept_locally / command.DATA).read_text())
    assert (kept_locally / command.TEXT).read_text() == whole_report(kept)
    assert not list(kept_locally.glob("*.svg"))
    said = capsys.readouterr().err
    assert "growth was not answered; what was measured before it (importing)" in said


def test_first_question_that_fails_leaves_what_was_there(
    kept_locally: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Figures of another run would pass for those of this one."""
    monkeypatch.setattr(importing, "measure", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.measure(["importing"], quick=True)
    assert "nothing was measured before it" in capsys.readouterr().err
    assert not kept_locally.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--draw", "--check"],
        ["--draw", "--quick"],
        ["--draw", "--only", "cpu"],
        ["--check", "--quick"],
        ["--check", "--only", "cpu"],
        ["--keep"],
        ["--keep", "--only", "cpu", "--quick"],
    ],
)
def test_options_that_exclude_each_other_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for both would believe that both were done."""
    with pytest.raises(SystemExit) as ended:
        command.arguments(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    reasons = ("not allowed with", "--check take what is kept", "--keep goes with")
    assert any(reason in said for reason in reasons)


def test_questions_answered_anew_replace_those_that_were_kept() -> None:
    """Who measures one change would have to measure everything again."""
    kept = report()
    found = command.merged(kept, {**kept, "questions": {"memory": {"rows": []}}})
    assert list(found["questions"]) == [
        name for name in command.QUESTIONS if name in kept["questions"]
    ]
    assert found["questions"]["memory"] == {"rows": []}
    assert found["questions"]["tls"] == kept["questions"]["tls"]


def test_quick_and_only_go_together() -> None:
    """Who tries one change would have to wait for everything."""
    given = command.arguments(["--only", "cpu", "growth", "--quick"])
    assert given.only == ["cpu", "growth"]
    assert given.quick


def test_memory_that_the_kernel_does_not_tell_is_no_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A budget would hold by 0 MiB where nothing was measured."""
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    with pytest.raises(LookupError, match="VmHWM"):
        machine.peak_mib()


def test_all_that_is_measured_or_draws_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody could tell whether a figure changed with us or with somebody else."""
    monkeypatch.setattr(machine, "version", lambda _: "1.0")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["bench"]
    names = {re.split(r"[^\w-]", one, maxsplit=1)[0] for one in needed}
    names -= {"hypothesis"}  # handovers alone are made up
    below = {"requests", "aiohttp-retry"}  # what two SDKs send with
    below |= {"niquests", "urllib3-future"}  # which nobody has to have
    assert names | below <= machine.versions().keys()


async def test_yardstick_dials_once_and_refuses_what_is_no_acceptance(
    phlo_simulator: Simulator,
) -> None:
    """A yardstick that only seems to do the request would measure nothing."""
    async with HandTunedClient(
        phlo_simulator.base_url, phlo_simulator.auth_id, phlo_simulator.auth_token
    ) as client:
        answer = await client.warm_transfer("p", "n", "+14152225555", "+14152223333")
        assert answer["api_id"]
        assert phlo_simulator.ledger.dials(to="+14152225555") == 1
        phlo_simulator.answer_next(503)
        with pytest.raises(RuntimeError, match="status 503"):
            await client.warm_transfer("p", "n", "+14152226666", "+14152223333")


_TURNS = """
import json, time
turns, last = 0, 0.0
while turns < 3 and time.process_time() < 10.0:
    now = time.monotonic()
    turns += now - last > 0.002
    last = now
print(json.dumps({"turns": turns}))
"""


class Watched(subprocess.Popen[str]):
    """A process that may run only while no other of its kind does."""

    running: ClassVar[set[subprocess.Popen[str]]] = set()

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- Popen's
        self._is_alone()
        super().__init__(*args, **options)
        self.running.add(self)

    def _is_alone(self) -> None:
        assert all(other.returncode is not None for other in self.running - {self})

    def send_signal(self, sig: int) -> None:
        """Send it, and see what comes of it."""
        if sig == signal.SIGCONT:
            self._is_alone()
            self.running.add(self)
        super().send_signal(sig)
        if sig == signal.SIGSTOP:
            self.running.discard(self)


def test_only_one_runs_at_any_moment_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ratio would tell how two clients share a processor, not what each needs."""
    monkeypatch.setattr(Watched, "running", set())
    monkeypatch.setattr(subprocess, "Popen", Watched)
    found = side_by_side(dict.fromkeys("ab", ("-c", _TURNS)))
    assert [one["turns"] for one in found.values()] == [3, 3]  # all were stopped


def test_client_that_fails_side_by_side_is_told() -> None:
    """A figure of a client that sent nothing would be the best of all."""
    with pytest.raises(RuntimeError, match="no such client"):
        side_by_side({"a": ("-c", "raise SystemExit('no such client')")})


_TELLS = """
print('{"cpu_us": 7.0, "peak_mib": 1.0, "per_second": 5.0, "p50_ms": 2, "p99_ms": 3}')
"""


def test_cpu_time_comes_from_the_runs_side_by_side() -> None:
    """Runs one after the other tell more of the machine than of the client."""
    rows = rounds_side_by_side({"a": ("-c", _TELLS)}, rounds=2)
    beside = {"client": "a", "cpu_us": 7.0, "peak_mib": 1.0}
    assert rows == [{**beside, "round": 0}, {**beside, "round": 1}]
    alone = _TELLS.replace("7.0", "99.0")
    add_alone(Lab(quick=True), rows, {"a": ("-c", alone)})
    assert [row["cpu_us"] for row in rows] == [7.0, 7.0]
    assert spread(rows, "a", "per_second") == Spread(5.0, 5.0, 5.0)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, int]]:
    """Note which queues would run side by side: transfers in all, by their length."""
    found: list[dict[int, int]] = []

    def note(programs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
        asked = [json.loads(words[-1]) for words in programs.values()]
        found.append({one["queued"]: one["transfers"] for one in asked})
        return {name: {"cpu_us": 1.0} for name in programs}

    monkeypatch.setattr(growth, "side_by_side", note)
    nowhere = contextlib.nullcontext(SimpleNamespace(base_url="http://127.0.0.1:9"))
    monkeypatch.setattr(Lab, "server", lambda _: nowhere)
    return found


def test_queues_that_are_compared_send_as_many(runs: list[dict[int, int]]) -> None:
    """The longest would run on alone, in another minute than what it is held to."""
    found = growth.measure(Lab(quick=False))
    assert all(len(set(run.values())) == 1 and 10_000 in run for run in runs)
    assert runs[-1] == {10_000: 10**6, 10**6: 10**6}
    lengths = {row["queued"] for row in found["rows"] if row["way"] == "streamed"}
    assert lengths == {10**power for power in range(2, 7)}


def test_million_is_streamed_once_for_memory_and_cost(
    runs: list[dict[int, int]],
) -> None:
    """Whoever waits for the benchmarks would wait ten minutes longer."""
    lab = Lab(quick=False)
    assert growth.longest_streams(lab) is growth.longest_streams(lab)
    assert len(runs) == 1
    growth.longest_streams(Lab(quick=False))
    assert len(runs) == 2


@pytest.mark.parametrize("way", ["streamed", "awaited", "journaled"])
def test_short_queues_are_sent_again_and_again(way: str) -> None:
    """What is called the cost of one would be that of a few that were sent."""
    lab = Lab(quick=True)
    with lab.server() as server:
        words = words_for(
            "queues", base_url=server.base_url, way=way, queued=50, transfers=300
        )
        [measured] = side_by_side({"queues": words}).values()
        assert server.stop() == {"requests": 200 + 300}, "connections, then transfers"
    assert measured["cpu_us"] > 0.0
    assert measured["samples"][-1][0] == 300


_LOADS = """
import json, sys
from benchmarks.questions import cpu
from benchmarks.clients import phlo, raw, yardstick
print(json.dumps({"uvloop": "uvloop" in sys.modules}))
"""


def test_client_on_asyncio_does_not_load_uvloop() -> None:
    """The memory of every client would be that of two event loops."""
    assert Lab(quick=True).run_python("-c", _LOADS) == {"uvloop": False}


def asked(base_url: str) -> list[tuple[int, bytes]]:
    """Ask a server about a node, then for a transfer; give status and body."""
    found = []
    for body in (None, b'{"action":"warm_transfer"}'):
        url = f"{base_url}/phlo/p/multi_party_call/n"
        with urllib.request.urlopen(url, body) as answer:  # noqa: S310 -- on loopback
            body_ = re.sub(rb'"api_id":"[0-9a-f]{32}"', b"", answer.read())
            found.append((answer.status, body_))
    return found


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    """Issue certificates for loopback."""
    with issued() as files:
        yield files


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[str]:
    """Run our own server over TLS; give its base URL."""
    with Lab(quick=True).server(certificate=certificates.server) as server:
        yield server.base_url


def measured(base_url: str, where: str, **options: object) -> dict[str, Any]:
    """Let a client send a few transfers in a process of its own."""
    load = {"in_flight": 4, "transfers": 20, "skipped": 4}
    return Lab(quick=True).work(
        "cpu", where=where, base_url=base_url, load=load, **options
    )


@pytest.mark.parametrize(
    "name",
    ["raw asyncio protocol", VERDICT, "aiophlo", "pyreqwest", "niquests", "httpx"],
)
def test_client_talks_tls_to_whom_the_given_authority_vouches_for(
    name: str, tls_server: str, certificates: Certificates
) -> None:
    """Its row over TLS would be missing, or that of one that checks nothing."""
    client = cpu_question.CLIENTS[name]
    pytest.importorskip(client.needs)
    found = measured(
        tls_server,
        client.where,
        on_uvloop=False,
        authority=str(certificates.authority),
    )
    assert found["cpu_us"] > 0.0


@pytest.mark.parametrize("name", ["pyreqwest", "plivo-python, POST only"])
def test_client_refuses_whom_no_authority_vouches_for(
    name: str, tls_server: str
) -> None:
    """It would be measured without what TLS is there for."""
    client = cpu_question.CLIENTS[name]
    pytest.importorskip(client.needs)
    with pytest.raises(RuntimeError, match="certificate"):
        measured(tls_server, client.where, on_uvloop=False)


def test_every_client_on_a_loop_is_measured_on_both() -> None:
    """What the event loop saves would be known of some alone."""
    names = set(cpu_question.CLIENTS)
    blocking = {name for name in names if name.startswith("plivo-python")}
    on_uvloop = {name for name in names if name.endswith(", uvloop")}
    assert {f"{name}, uvloop" for name in names - blocking - on_uvloop} == on_uvloop


def test_client_that_is_not_installed_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever lacks one peer would get no figures at all."""
    clients = {"peer": cpu_question.Client("peer:run", needs="no_such_package")}
    monkeypatch.setattr(cpu_question, "CLIENTS", clients)
    found = cpu_question.those_there_are()
    assert found == ({}, {"peer": "no_such_package is not installed"})


def test_small_buffers_take_less_memory_over_tls(
    tls_server: str, certificates: Certificates
) -> None:
    """Whoever follows the advice would save nothing."""
    load = {"in_flight": 100, "transfers": 100, "skipped": 100}
    default, small = (
        Lab(quick=True).work(
            "cpu",
            where="raw:run",
            base_url=tls_server,
            on_uvloop=False,
            authority=str(certificates.authority),
            tls_buffer=buffer,
            load=load,
        )["resident_mib"]
        for buffer in (None, 32 * 1024)
    )
    assert default - small > 100 * (256 - 32) / 1024 / 2


_COUNTS = """
from benchmarks.harness import instructions
sum(range(300_000))
instructions.switch(on=True)
sum(range(100_000))
instructions.switch(on=False)
sum(range(300_000))
print('{"transfers": 100}')
"""


@pytest.mark.skipif(instructions.version() is None, reason="valgrind isn't installed")
def test_instructions_are_counted_between_the_switches_alone() -> None:
    """Importing would be told as the cost of a transfer."""
    per_number = instructions.count(("-c", _COUNTS)) / 1_000
    assert 50 < per_number < 400  # and seven times that of what is around them


def test_what_others_use_of_the_processor_is_told_from_our_own() -> None:
    """Our own work would make every machine look busy."""
    before = machine.Clock(wall=100.0, busy=50.0, own=10.0)
    after = machine.Clock(wall=120.0, busy=60.0, own=15.0)
    assert after.others_since(before) == 0.25
    now = machine.Clock.now()
    assert 0.0 < now.own < now.busy < now.wall


def test_answers_have_ids_of_their_own(
    tls_server: str, certificates: Certificates
) -> None:
    """A client that notices replayed answers would be measured at that."""
    trusted = ssl.create_default_context(cafile=certificates.authority)
    url = f"{tls_server}/phlo/p/multi_party_call/n"
    ids = set()
    for _ in range(2):
        with urllib.request.urlopen(url, b"{}", context=trusted) as answer:  # noqa: S310 -- on loopback
            ids.add(json.load(answer)["api_id"])
    assert len(ids) == 2


@pytest.mark.skipif(nginx.path() is None, reason="nginx is not installed")
def test_nginx_talks_tls(certificates: Certificates) -> None:
    """The figures over TLS would be those of a slower server."""
    trusted = ssl.create_default_context(cafile=certificates.authority)
    with Lab(quick=True).prompt_server(certificates.server) as base_url:
        url = f"{base_url}/phlo/p/multi_party_call/n"
        with urllib.request.urlopen(url, b"{}", context=trusted) as answer:  # noqa: S310 -- on loopback
            assert answer.status == 201


@pytest.mark.skipif(nginx.path() is None, reason="nginx is not installed")
def test_nginx_answers_as_our_own_server_does() -> None:
    """Two machines' figures would tell of two different answers."""
    command_ = nginx.path()
    assert command_ is not None
    with nginx.serving(command_) as base_url, Lab(quick=True).server() as own:
        assert asked(base_url) == asked(own.base_url)


def test_own_server_answers_at_once_when_there_is_no_nginx(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has to install a server to see the figures."""
    monkeypatch.setattr(nginx, "path", lambda: None)
    with Lab(quick=True).prompt_server() as base_url:
        assert [status for status, _ in asked(base_url)] == [200, 201]
    assert "nginx" not in machine.versions()


@pytest.fixture
def broken_nginx(tmp_path: Path) -> Path:
    """Give a program that ends at once, in place of nginx."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho no luck >&2\nexit 1\n")
    program.chmod(0o755)
    return program


def test_nginx_that_ends_is_told(
    monkeypatch: pytest.MonkeyPatch, broken_nginx: Path
) -> None:
    """A figure of a client that nobody answered would be the best of all."""
    monkeypatch.setattr(nginx, "path", lambda: str(broken_nginx))
    with (
        pytest.raises(RuntimeError, match="nginx ended: no luck"),
        Lab(quick=True).prompt_server(),
    ):
        pytest.fail("it serves")


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a request and close."""
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_raw_client_fails_when_it_is_hung_up_on() -> None:
    """All the others would wait for it for twenty minutes."""
    load = Load(in_flight=2, transfers=10, skipped=2)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ExceptionGroup) as raised:
            await asyncio.wait_for(raw.run(f"http://127.0.0.1:{port}/v1", load), 5)
    assert raised.group_contains(ConnectionResetError)


@pytest.mark.skipif(nginx.path() is None, reason="nginx is not installed")
def test_nginx_keeps_every_connection_of_clients_side_by_side() -> None:
    """A client that is hung up on has no figure, or one of connecting anew."""
    machine.raise_file_limit()
    with Lab(quick=True).prompt_server() as base_url, contextlib.ExitStack() as stack:
        where = ("127.0.0.1", urlsplit(base_url).port)
        kept = [
            stack.enter_context(socket.create_connection(where, timeout=10.0))
            for _ in range(1_500)
        ]
        head = b"GET /v1/phlo/p HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(2):
            for one in kept:
                one.sendall(head)
                assert one.recv(4_096).startswith(b"HTTP/1.1 200")
