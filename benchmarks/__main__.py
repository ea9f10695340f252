"""The one entry: `python -m benchmarks`."""

import argparse
import contextlib
import datetime as dt
import hashlib
import importlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.lab import ROOT, Lab, say
from benchmarks.harness.report import (
    PICTURES,
    Report,
    digest,
    docs_section,
    readme_section,
    whole_report,
)
from benchmarks.harness.sections import MarkersError, replace_section, section_of

QUESTIONS = (
    "cpu",
    "tls",
    "in_flight",
    "connections",
    "memory",
    "pacing",
    "duplicates",
    "importing",
    "growth",
)
KEPT = ROOT / "benchmarks" / "results"
LOCAL = KEPT / "local"
DATA, TEXT = "report.json", "report.md"
PLOTS = "plots.json"  # of each, the SHA-256
Pages = Mapping[Path, Callable[[Report], str]]
PAGES: Pages = {  # and what writes the section that each holds
    ROOT / "README.md": readme_section,
    ROOT / "docs" / "benchmarks.md": docs_section,
}


class NothingKeptError(ValueError):
    """No run has been kept."""


def main() -> int:
    """Measure, draw and write; or check what was written."""
    given = arguments(sys.argv[1:])
    try:
        for page in PAGES:
            section_of(page.read_text())
        if given.check:
            return check(KEPT, PAGES)
        if given.draw:
            write(_read(KEPT), KEPT, PAGES)
        else:
            _answer(given)
    except (MarkersError, NothingKeptError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted: what is kept is as it was")
        return 130
    return 0


def _answer(given: argparse.Namespace) -> None:
    """Measure what was asked for, and write it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the clients too
    before = _read(KEPT) if given.keep else None
    report = measure(given.only or QUESTIONS, quick=given.quick)
    print(whole_report(report))
    if before is not None:
        report = merged(before, report)
    if before is not None or not (given.quick or given.only):
        write(report, KEPT, PAGES)


def merged(before: Report, report: Report) -> Report:
    """Return what was kept, with some questions answered anew.

    Each answer says when it was found, on what machine and with which packages.
    """
    answers = {**before["questions"], **report["questions"]}
    ordered = {name: answers[name] for name in QUESTIONS if name in answers}
    return {**report, "questions": ordered}


def measure(questions: tuple[str, ...] | list[str], *, quick: bool) -> Report:
    """Answer some of the questions, one after the other.

    After each, what there is so far is written where it isn't kept: should a later
    one fail, what came before it is not lost.
    """
    # What is not installed had better be missed now than after all that measuring.
    modules = {
        name: importlib.import_module(f"benchmarks.questions.{name}")
        for name in questions
    }
    importlib.import_module("benchmarks.harness.plots")
    lab = Lab(quick=quick)
    described, versions = machine.describe(), machine.versions()
    report: Report = {}
    for name, module in modules.items():
        say(str(module.__doc__).splitlines()[0])
        begun, clock = time.monotonic(), machine.Clock.now()
        with _told_when_it_fails(name, before=list(report.get("questions", ()))):
            found = module.measure(lab)
        found["run"] = {
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "took_seconds": round(time.monotonic() - begun),
            "others": round(machine.Clock.now().others_since(clock), 3),
            "machine": described,
            "versions": versions,
        }
        report = {
            "quick": quick,
            "questions": {**report.get("questions", {}), name: found},
        }
        write(report, LOCAL, {})
    return report


@contextlib.contextmanager
def _told_when_it_fails(name: str, *, before: list[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:  # an interrupt too
        kept = "nothing was measured before it"
        if before:
            where = LOCAL.relative_to(ROOT)
            kept = f"what was measured before it ({', '.join(before)}) is in {where}"
        say(f"{name} was not answered; {kept}")
        raise


def write(report: Report, folder: Path, pages: Pages) -> None:
    """Keep the figures, draw them, and write them where people look."""
    from benchmarks.harness import plots  # noqa: PLC0415 -- a check needs no matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATA).write_text(json.dumps(report, indent=1) + "\n")
    (folder / TEXT).write_text(whole_report(report))
    for plot in folder.glob("*.svg"):
        plot.unlink()  # of another run, perhaps of other questions
    plots.draw(report, folder)
    drawn = {plot.name: _sha256(plot) for plot in sorted(folder.glob("*.svg"))}
    (folder / PLOTS).write_text(json.dumps(drawn, indent=1) + "\n")
    for page, section in pages.items():
        page.write_text(replace_section(page.read_text(), section(report)))
    say(f"written to {folder.relative_to(ROOT)}")


def check(folder: Path, pages: Pages) -> int:
    """Hold the pages, the report and the plots against the kept figures.

    Raises:
        NothingKeptError: There are none.
    """
    report = _read(folder)
    wrong = [
        str(page.relative_to(ROOT))
        for page, section in pages.items()
        if section_of(page.read_text()).strip() != section(report).strip()
    ]
    text = folder / TEXT
    if not text.exists() or text.read_text() != whole_report(report):
        wrong.append(str(text.relative_to(ROOT)))
    wrong += _changed_plots(folder, digest(report))
    for name in wrong:
        say(f"{name} differs from {DATA}: run `python -m benchmarks --draw`")
    return 1 if wrong else 0


def _changed_plots(folder: Path, figures: str) -> list[str]:
    """Return the plots that are missing, or not as they were drawn of the figures."""
    noted = folder / PLOTS
    drawn: dict[str, str] = json.loads(noted.read_text()) if noted.exists() else {}
    shown = {f"{name}.svg" for name, _ in PICTURES}
    there = {plot.name: plot for plot in folder.glob("*.svg")}
    return [
        str((folder / name).relative_to(ROOT))
        for name in sorted(shown | set(drawn) | set(there))
        if name not in there
        or drawn.get(name) != _sha256(there[name])
        or figures not in there[name].read_text()
    ]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(folder: Path) -> Report:
    try:
        report: Report = json.loads((folder / DATA).read_text())
    except FileNotFoundError as error:
        raise NothingKeptError(
            f"no {DATA} is kept: run `python -m benchmarks`"
        ) from error
    return report


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Understand the command line, or end with what is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    kept = parser.add_mutually_exclusive_group()
    parser.add_argument(
        "--quick", action="store_true", help="under 3 minutes; kept locally"
    )
    parser.add_argument(
        "--only", nargs="+", choices=QUESTIONS, help="some questions; kept locally"
    )
    parser.add_argument(
        "--keep", action="store_true", help="with --only: keep these with the others"
    )
    kept.add_argument(
        "--draw", action="store_true", help="write anew from the kept figures"
    )
    kept.add_argument(
        "--check", action="store_true", help="fail if what is written differs from them"
    )
    given = parser.parse_args(words)
    if (given.draw or given.check) and (given.quick or given.only):
        parser.error("--draw and --check take what is kept: not with --quick or --only")
    if given.keep and (given.quick or not given.only):
        parser.error("--keep goes with --only, and not with --quick")
    return given


if __name__ == "__main__":
    sys.exit(main())
