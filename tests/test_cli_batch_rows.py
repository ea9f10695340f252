"""The rows of a batch: what is read, and what is refused before anything is sent."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from batches import AGENT, IDS, number, write_rows

from aiophlo.actions import Role, WarmTransfer
from aiophlo.cli import main
from aiophlo.cli.exits import Exit, UnusableError
from aiophlo.cli.rows import Defaults, Unusable, action_of, own_key, rows_of
from aiophlo.cli.source import opened
from aiophlo.cli.survey import Survey, survey

NUMBER = "+14155550123"
DEFAULTS = Defaults("p", "n", assume_plus=False)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[Survey, list[Unusable]]]:
    """Give a function that surveys some text, or bytes."""

    def read(
        text: str | bytes, defaults: Defaults = DEFAULTS
    ) -> tuple[Survey, list[Unusable]]:
        path = tmp_path / "rows"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        refused: list[Unusable] = []
        with opened(str(path)) as source:
            return survey(source, defaults, refused.append), refused

    return read


def actions(path: Path, defaults: Defaults = DEFAULTS) -> list[WarmTransfer]:
    """Return what a file asks for."""
    with opened(str(path)) as source:
        return [
            action_of(row[1], defaults, own_key(row[1]) or None)
            for row in rows_of(source)
            if not isinstance(row, Unusable)
        ]


@pytest.mark.parametrize(
    "text",
    [
        f"to,trigger_source,role,phlo_id,node_id,key\n{NUMBER},{AGENT},customer,x,y,k",
        f"key,node_id,phlo_id,role,trigger_source,to\nk,y,x,customer,{AGENT},{NUMBER}\n",
        (
            "\ufeffTo, Trigger_Source ,role,phlo_id,node_id,key\r\n"
            f'"{NUMBER}","{AGENT}","customer","x","y","k"\r\n'
        ),
        (
            f"\n\nto,trigger_source,role,phlo_id,node_id,key\n"
            f"+1 (415) 555-0123,{AGENT},customer,x,y, k \n,,,,,\n"
        ),
        (
            f'{{"to":"{NUMBER}","trigger_source":"{AGENT}","role":"customer",'
            '"phlo_id":"x","node_id":"y","key":"k"}'
        ),
        (
            f'\ufeff\n{{"key":"k","node_id":"y","phlo_id":"x","role":"customer",'
            f'"trigger_source":"{AGENT}","to":"{NUMBER}"}}\r\n\r\n'
        ),
    ],
)
def test_row_reads_the_same_however_it_was_written(text: str, tmp_path: Path) -> None:
    """Every program writes CSV in its own way, and means the same people."""
    path = tmp_path / "rows"
    path.write_bytes(text.encode())
    (action,) = actions(path)
    assert action == WarmTransfer(
        phlo_id="x",
        node_id="y",
        trigger_source=AGENT,
        to=NUMBER,
        role=Role.CUSTOMER,
    )
    assert action.key == "k"


def test_row_may_leave_out_what_options_say(tmp_path: Path) -> None:
    """Most lists are for one node, and one role."""
    path = tmp_path / "rows"
    path.write_text(f"to,trigger_source,node_id\n{NUMBER},{AGENT},\n{NUMBER},{AGENT},m")
    first, second = actions(path)
    assert (first.phlo_id, first.node_id, first.role) == ("p", "n", Role.AGENT)
    assert (second.node_id, first.key) == ("m", None)


def test_plus_is_put_before_bare_numbers_only_when_asked_for(tmp_path: Path) -> None:
    """A spreadsheet has dropped it; guessing it unasked may ring another country."""
    path = tmp_path / "rows"
    path.write_text("to,trigger_source\n1 415 555 0123,sip:agent@phone.plivo.com\n")
    (action,) = actions(path, Defaults("p", "n", assume_plus=True))
    assert action.to == NUMBER
    assert action.trigger_source == "sip:agent@phone.plivo.com"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"1.41E+10,{AGENT},,", "a spreadsheet has rounded it"),
        (f'"1,41E+10",{AGENT},,', "a spreadsheet has rounded it"),
        (f"14155550123.0,{AGENT},,", "decimal fraction"),
        (f"14155550123,{AGENT},,", "the '+' is missing"),
        (f",{AGENT},,", "to: is missing"),
        (f"{NUMBER},,,", "trigger_source: is missing"),
        (f"{NUMBER},{AGENT},boss,", "role: expected 'agent' or 'customer'"),
        (f"{NUMBER},{AGENT},,,", "has 5 fields, its header 4"),
        (f"{NUMBER},{AGENT}", "has 2 fields, its header 4"),
        (f'{NUMBER},{AGENT},,"a\nb"', "line break within a field"),
        (f'{NUMBER},{AGENT},,"a"b', "is broken CSV"),
        (f"{NUMBER},{AGENT},,a\x07", "control characters"),
    ],
)
def test_unusable_csv_row_is_told_with_its_line(
    row: str, reason: str, read: Callable[..., tuple[Survey, list[Unusable]]]
) -> None:
    """Somebody has to find it among thousands, and a lost number must not ring."""
    sound = f"{number(5)},{AGENT},,"
    text = f"to,trigger_source,role,key\n{sound}\n{row}\n{sound}\n"
    found, (refused,) = read(text)
    assert refused.line == 3
    assert reason in refused.reason
    assert "5550123" not in refused.reason
    assert (found.rows, found.unusable) == (2, 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("17", "is not a JSON object"),
        ('{"to": 14155550123}', "to: expected text in quotes, got int"),
        (f'{{"to": "{NUMBER}", "to": "{NUMBER}"}}', "names a field twice"),
        (f'{{"to": "{NUMBER}", "from": "x"}}', "has an unknown field 'from'"),
        (f'{{"to": "{NUMBER}"}}', "trigger_source: is missing"),
        (f'{{"to": null, "trigger_source": "{AGENT}"}}', "to: is missing"),
        (f'{{"to": "{NUMBER}", "trigger_source": "\\ud800"}}', "is not UTF-8"),
    ],
)
def test_unusable_json_line_is_told_with_its_line(
    row: str, reason: str, read: Callable[..., tuple[Survey, list[Unusable]]]
) -> None:
    """A program wrote it, and a person has to find it."""
    sound = f'{{"to": "{number(5)}", "trigger_source": "{AGENT}"}}'
    found, (refused,) = read(f"{sound}\n\n{row}\n{sound}\n")
    assert refused.line == 3
    assert reason in refused.reason
    assert (found.rows, found.unusable) == (2, 1)


def test_row_in_another_encoding_is_told(
    read: Callable[..., tuple[Survey, list[Unusable]]],
) -> None:
    """A key that reads otherwise in the next run would be another key."""
    sound = f"{NUMBER},{AGENT},".encode()
    header = b"to,trigger_source,key\n"
    found, (refused,) = read(header + sound + b"a\n" + sound + b"M\xfcller\n")
    assert (found.rows, refused.line) == (1, 3)
    assert refused.reason == "is not UTF-8 text"


def test_ids_are_missing_when_neither_row_nor_option_has_them(
    read: Callable[..., tuple[Survey, list[Unusable]]],
) -> None:
    """The message must name the option that would do."""
    text = f"to,trigger_source\n{NUMBER},{AGENT}\n"
    _, (refused,) = read(text, Defaults("p", None, assume_plus=False))
    assert refused.reason == "node_id: is missing, and no --node-id was given"


def test_key_that_stands_for_two_transfers_is_told(
    read: Callable[..., tuple[Survey, list[Unusable]]],
) -> None:
    """Only one of the two would be sent, and nobody could say which."""
    rows = [f"{number(n)},{AGENT},{key}" for n, key in [(1, "a"), (2, "b"), (1, "a")]]
    other = f"{number(3)},{AGENT},b"
    found, (refused,) = read("\n".join(["to,trigger_source,key", *rows, other]))
    assert (refused.line, refused.reason) == (
        5,
        "key: stands for another transfer in line 3",
    )
    assert found == Survey(rows=3, unusable=1, repeated=2, keyless=0)


def test_open_quote_is_told_with_the_lines_it_swallows(
    read: Callable[..., tuple[Survey, list[Unusable]]],
) -> None:
    """Rows that it hides must not be forgotten in silence."""
    sound = f"{NUMBER},{AGENT},\n"
    text = f'to,trigger_source,key\n{sound}{NUMBER},{AGENT},"k\n{sound * 3}'
    found, refused = read(text)
    assert [row.line for row in refused] == [3]
    assert "up to line 6" in refused[0].reason
    assert (found.rows, found.unusable) == (1, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"[{}]", "holds a JSON array"),
        (b"to;trigger_source\n", "separated by ';'"),
        (b"to\ttrigger_source\n", "separated by tabs"),
        (b"to,key\n", "lacks 'trigger_source'"),
        (b"to,trigger_source,phone\n", "'phone'"),
        (b"to,trigger_source,to\n", "'to' twice"),
        ("to,trigger_source\n".encode("utf-16"), "UTF-16"),
        (b'"to,trigger_source\n', "line 1"),
    ],
)
def test_unusable_header_is_told(
    text: bytes, reason: str, read: Callable[..., tuple[Survey, list[Unusable]]]
) -> None:
    """One word tells what a hundred thousand refused rows would hide."""
    with pytest.raises(UnusableError, match=reason):
        read(text)


def test_every_unusable_row_is_listed_before_anything_is_sent(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half a list sent is worse than none: nobody knows which half."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "secret")
    path = tmp_path / "rows.csv"
    lines = ["to,trigger_source", *[f"1.41E+10,{AGENT}"] * 3, f"{NUMBER},{AGENT}"]
    path.write_text("\n".join(lines))
    journal = tmp_path / "j.db"
    code = main(["batch", str(path), *IDS, "--journal", str(journal)])
    assert code == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert (out, journal.exists()) == ("", False)
    *listed, last = err.splitlines()
    assert [line.split(":")[0] for line in listed] == ["line 2", "line 3", "line 4"]
    assert "3 of 4 rows can't be used, nothing was sent" in last


def test_survey_holds_memory_flat(tmp_path: Path) -> None:
    """A list of a million must not need a machine of its own."""

    def peak(rows: int) -> int:
        path = write_rows(tmp_path / "rows.csv", rows)
        tracemalloc.start()
        with opened(str(path)) as source:
            survey(source, DEFAULTS, lambda _row: None)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(20_000) < peak(5_000) + 100_000
