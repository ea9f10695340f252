"""The rows of a batch: what is read, and what is refused before anything is sent."""

import contextlib
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.first_pass import Survey, validate_rows
from aiophlo.cli.row_source import opened
from aiophlo.cli.rows import Defaults, Unusable, action_of, own_key, rows_of
from aiophlo.model.actions import Role, WarmTransfer
from tests.support.batches import AGENT, IDS, name_account, number, write_rows

NUMBER = "+14155550123"
DEFAULTS = Defaults("p", "n", assume_plus=False)


def _ignore(*_: object) -> None:
    """Take what is told, and do nothing."""


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
            return validate_rows(source, defaults, refused.append, _ignore), refused

    return read


def actions(path: Path, defaults: Defaults = DEFAULTS) -> list[WarmTransfer]:
    """Return what a file asks for."""
    with opened(str(path)) as source:
        return [
            action_of(row[1], defaults, own_key(row[1]) or None)
            for row in rows_of(source, defaults)
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
        (f"{NUMBER},{AGENT},,,x", "has 5 fields, its header 4"),
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
        "key: line 3 has it for another transfer",
    )
    assert found == Survey(
        rows=3, unusable=1, repeated=2, keyless=0, equal=0, conflicts=1
    )


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
        (b"[{}]", "holds a JSON array"),
        (b'{\n  "to": "x"\n}\n', "objects of several lines"),
        (b'{"to": "x",\n "key": "y"}\n{"to": ', "objects of several lines"),
        (b"PK\x03\x04...", r"Excel workbook \(\.xlsx\)"),
        (b"\x1f\x8b\x08..", r"compressed \(\.gz\); try: gunzip"),
        (b"to,Trigger Source\n", r"'Trigger Source' \(is it 'trigger_source'\?\)"),
        (b"Phone;Agent\n", r"'Phone' \(is it 'to'\?\), 'Agent' \(is it 'trigger_so"),
        (b"to,,trigger_source\n", "a column without a name"),
        (b"to,trigger_source,rolle\n", r"'rolle' \(is it 'role'\?\).*--ignore-columns"),
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


@pytest.mark.parametrize("kind", ["device", "file", "pipe", "second line"])
def test_line_without_an_end_is_refused(
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was read until the memory was full, and the machine's other work died."""
    name_account(monkeypatch)
    path = tmp_path / "rows.csv"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
        threading.Thread(target=_write_without_end, args=[path], daemon=True).start()
    else:
        path.write_text("to,trigger_source\n" if kind == "second line" else "")
        with path.open("r+b") as file:
            file.truncate(1 << 40)  # with nothing on the disk
    assert main(["batch", str(path), *IDS, "--dry-run"]) == Exit.UNUSABLE
    said = capsys.readouterr().err
    assert "a line of more than 1 MiB" in said
    assert len(said) < 300


def _write_without_end(path: Path) -> None:
    with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
        while True:
            pipe.write(b"x" * 65_536)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_up_to_the_bound_are_read(
    end: str, read: Callable[..., tuple[Survey, list[Unusable]]]
) -> None:
    """A long note in a column that is passed over must not stop a list."""
    lines = [f"{number(n)},{AGENT},k{n}{'x' * 100_000}"[:110_000] for n in range(30)]
    found, refused = read(end.join(["to,trigger_source,key", *lines, ""]))
    assert (found.rows, refused) == (30, [])


def test_every_unusable_row_is_listed_before_anything_is_sent(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half a list sent is worse than none: nobody knows which half."""
    name_account(monkeypatch)
    path = tmp_path / "rows.csv"
    lines = ["to,trigger_source", *[f"1.41E+10,{AGENT}"] * 3, f"{NUMBER},{AGENT}"]
    path.write_text("\n".join(lines))
    journal = tmp_path / "j.db"
    code = main(["batch", str(path), *IDS, "--journal", str(journal)])
    assert code == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert (out, journal.exists()) == ("", False)
    *listed, last = err.splitlines()
    assert [line.split(":")[0] for line in listed] == ["lines 2 to 4"]
    assert "3 of 4 rows can't be used, nothing was sent" in last


def test_survey_holds_memory_flat(tmp_path: Path) -> None:
    """A list of a million must not need a machine of its own."""

    def peak(rows: int) -> int:
        path = write_rows(tmp_path / "rows.csv", rows)
        tracemalloc.start()
        with opened(str(path)) as source:
            validate_rows(source, DEFAULTS, _ignore, _ignore)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(20_000) < peak(5_000) + 100_000


@pytest.mark.parametrize(
    "text",
    [
        "to;trigger_source;key\n{0};{1};k\n",
        "to\ttrigger_source\tkey\n{0}\t{1}\tk\n",
        "sep=;\r\nto;trigger_source;key\r\n{0};{1};k\r\n",
        '"sep=|"\nto|trigger_source|key\n{0}|{1}|k\n',
        "to,trigger_source,key,,\n{0},{1},k,,\n,,,,\n",
        "to,trigger_source,key\n{0},{1},k,,,,\n",
        "to,trigger_source,key\n{0},{1},k\n\x1a",
        "to,trigger_source,key\n{0},{1},k\x1a\r\n",
        '{{"to": "{0}", "trigger_source": "{1}", "key": "k"}}\n\x1a',
        '"to";"trigger_source";"key"\n"{0}";"{1}";"k"\n',
    ],
)
def test_spreadsheets_habits_change_no_row(
    text: str, tmp_path: Path, read: Callable[..., tuple[Survey, list[Unusable]]]
) -> None:
    """Whoever exports a list can't choose how their program writes it."""
    text = text.format(NUMBER, AGENT)
    found, refused = read(text)
    assert (found.rows, refused) == (1, [])
    (action,) = actions(tmp_path / "rows")
    assert (action.to, action.trigger_source, action.key) == (NUMBER, AGENT, "k")


def test_lines_are_counted_from_the_start_of_the_file(
    read: Callable[..., tuple[Survey, list[Unusable]]],
) -> None:
    """A person looks for the line in an editor, which counts all of them."""
    _, (refused,) = read(f"sep=;\n\nto;trigger_source\n{NUMBER};{AGENT}\n1;{AGENT}\n")
    assert refused.line == 5


@pytest.mark.parametrize(
    "text",
    [
        f"to,Name,trigger_source,\n{NUMBER},Ann,{AGENT},\n",
        f'{{"to": "{NUMBER}", "trigger_source": "{AGENT}", "name": ["Ann"]}}\n',
    ],
)
def test_columns_that_are_not_known_are_passed_over_when_asked_for(
    text: str, read: Callable[..., tuple[Survey, list[Unusable]]]
) -> None:
    """A customer system's list has twenty columns more."""
    ignoring = Defaults("p", "n", assume_plus=False, ignore_columns=True)
    found, refused = read(text, ignoring)
    assert (found.rows, refused) == (1, [])
    if text[0] == "{":
        assert read(text)[0].unusable == 1
    else:
        with pytest.raises(UnusableError, match="'Name'"):
            read(text)


@pytest.mark.parametrize("text", ["", "\n \n", "to,trigger_source\n", "\x1a"])
def test_file_without_rows_is_refused_unless_that_may_be(
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An export that failed must not count as a night in which all were called."""
    name_account(monkeypatch)
    path = tmp_path / "rows.csv"
    path.write_text(text)
    options = ["batch", str(path), *IDS, "--journal", str(tmp_path / "j.db")]
    for more in ([], ["--dry-run"]):
        assert main([*options, *more]) == Exit.UNUSABLE
        assert "rows.csv: holds no rows; --allow-empty" in capsys.readouterr().err
    for more in ([], ["--dry-run"], []):
        assert main([*options, *more, "--allow-empty"]) == Exit.ACCEPTED
        assert "settled before" not in "".join(capsys.readouterr())
    assert main(options) == Exit.UNUSABLE


def test_closed_standard_input_is_one_line(tmp_path: Path) -> None:
    """A cron job without input must say so in its mail."""
    command = f"{sys.executable} -m aiophlo batch - --phlo-id p --node-id n <&-"
    done = subprocess.run(  # noqa: S602 -- our own command
        command,
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ
        | {"PLIVO_AUTH_ID": "MA" + "X" * 18, "PLIVO_AUTH_TOKEN": "secret"},
    )
    assert done.returncode == Exit.UNUSABLE
    assert done.stderr == "aiophlo: standard input: can't be read: it is closed\n"


def test_rows_are_equal_by_the_transfer_they_ask_for(tmp_path: Path) -> None:
    """A row told twice under one key is one row; under two keys it is a repeat."""
    path = tmp_path / "rows"
    same, other = f"{NUMBER},{AGENT}", f"{number(7)},{AGENT}"
    rows = [f"{same},,a", f"{other},,b", f"{same},,a", f"{same},,c", f"{same},,c"]
    rows += [f"{same},,", f"{same},customer,d", f"{other},agent,e", f"{same},,"]
    path.write_text("\n".join(["to,trigger_source,role,key", *rows]))
    told: list[tuple[int, int]] = []
    with opened(str(path)) as source:
        found = validate_rows(
            source, DEFAULTS, _ignore, lambda *lines: told.append(lines)
        )
    assert told == [(5, 2), (6, 2), (7, 2), (9, 3), (10, 2)]
    assert (found.rows, found.repeated, found.equal) == (9, 2, 4)
