"""What the docs say of handovers and of the log is what the code does."""

import ast
import inspect
import logging
import re
from pathlib import Path

import pytest

from aiophlo import Ending, InDoubtError, SessionPool
from aiophlo.handover import states
from aiophlo.handover.alarm import sound_alarm
from aiophlo.handover.states import Phase
from aiophlo.model.handover_records import OpenHandover
from aiophlo.simulator import Simulator
from tests.support.handover_stage import FIRST, SECOND, set_stage

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def rows_of(text: str, heading: str) -> list[str]:
    """Return what stands in the first column of the table below a heading."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


HANDOVER = (DOCS / "explanation" / "handover.md").read_text("utf-8")
LOG_FIELDS = (DOCS / "reference" / "log_fields.md").read_text("utf-8")


def test_diagram_is_the_drawing_in_the_code() -> None:
    """Whoever reads it must not be told of last year's steps."""
    drawing = inspect.getdoc(states) or ""
    steps = re.findall(r"^ *(\w+) --> (\w+) : (.+)$", drawing, re.MULTILINE)
    shown = re.findall(r'^ *(\w+) -> (\w+) \[label="(.+)"\];$', HANDOVER, re.MULTILINE)
    assert [(a, b, label.replace("\\n", ", ")) for a, b, label in shown] == steps


def test_every_phase_and_every_ending_is_explained() -> None:
    """An ending that isn't there leaves its reader to guess."""
    assert rows_of(HANDOVER, "Every step") == [*Phase]
    assert sorted(rows_of(HANDOVER, "How each attempt ended")) == sorted(Ending)


def fields_of(record: logging.LogRecord) -> set[str]:
    """Return the names of a record's own fields."""
    return {name for name in vars(record) if name.startswith("phlo_")}


async def test_log_fields_of_an_action_are_these(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A dashboard is built from this page, and stays empty for a wrong name."""
    caplog.set_level(logging.DEBUG, "aiophlo")
    async with SessionPool(simulator.account, base_url=simulator.base_url) as pool:
        node = pool.phlo("p").multi_party_call("n")
        await node.warm_transfer(to="+14152225555", trigger_source="+14152223333")
        simulator.drop_next_answer()
        with pytest.raises(InDoubtError):
            await node.warm_transfer(to="+14152226666", trigger_source="+14152223333")
    records = [one for one in caplog.records if fields_of(one)]
    assert {one.levelname for one in records} == {"DEBUG", "INFO", "WARNING"}
    for record in records:
        assert fields_of(record) == set(rows_of(LOG_FIELDS, "Of an action"))


def test_log_fields_of_the_alarm_are_these(caplog: pytest.LogCaptureFixture) -> None:
    """Who is woken by it must know whom to call."""
    handover = OpenHandover(
        account="MA" + "X" * 18,
        phlo_id="p",
        node_id="n",
        agent="+14152223333",
        customer="…44",
        targets="…55",
    )
    sound_alarm(handover, "…55")
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert fields_of(record) == set(rows_of(LOG_FIELDS, "Of the alarm"))


def test_no_record_has_a_field_that_is_not_documented() -> None:
    """A field that nobody knows of is one that nobody may change or remove."""
    code = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "aiophlo").rglob("*.py")
    )
    written = set(re.findall(r'^ +"(phlo_\w+)":', code, re.MULTILINE))
    headings = "Of an action", "Of the alarm", "Of looking"
    assert written == {name for one in headings for name in rows_of(LOG_FIELDS, one)}


ABOUT_MANY = {  # handovers, or a file of them
    "ending handovers that are still open: %d",
    "closed before handovers had ended: %d",
    "no handovers can be recovered from a file: %s",
}


def test_every_record_about_a_handover_says_which() -> None:
    """Of a hundred live calls the log must say which one went wrong."""
    without = set()
    for path in (ROOT / "aiophlo" / "handover").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith(
                "logger."
            ):
                message = ast.unparse(call.args[0]).strip("'")
                if not any(keyword.arg == "extra" for keyword in call.keywords):
                    without.add(message)
    assert without == ABOUT_MANY


def test_no_record_counts_before_a_noun() -> None:
    """`1 handovers` reads as if something were wrong with the count, too."""
    code = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "aiophlo").rglob("*.py")
    )
    logged = re.findall(r'logger\.\w+\(\s*"([^"]*%d[^"]*)"', code)
    assert len(logged) > 3
    assert not [message for message in logged if re.search(r"%d \w", message)]


async def test_log_of_a_handover_bears_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever looks into one complaint filters by the id that the service kept."""
    caplog.set_level(logging.DEBUG, "aiophlo")
    async with set_stage() as stage:
        stage.simulator.drop_next_answer()  # a WARNING, too
        stage.people_are("ignores", FIRST)
        async with stage.consult(to=[FIRST, SECOND]) as consult:
            await consult.complete()
    records = [one for one in caplog.records if one.name == "aiophlo"]
    assert {one.levelname for one in records} == {"DEBUG", "INFO", "WARNING"}
    assert {vars(one).get("phlo_handover") for one in records} == {consult.id}


def test_messages_without_fields_are_the_code_s() -> None:
    """Whoever greps their logs for a message of this page must find it."""
    code = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "aiophlo").rglob("*.py")
    )
    code = re.sub(r'"\n\s+"', "", code)
    section = LOG_FIELDS.partition("\n## Of a handover\n")[2]
    for cell in re.findall(r"^\| [A-Z]+ \| (.+?) \|", section, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", cell):
            pattern = re.escape(message).replace("…", "%[.0-9a-z]+")
            assert re.search(pattern, code), message
