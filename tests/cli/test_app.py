"""The command line's roof: bad input, exit codes, and what it takes to run."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit, exit_of
from aiophlo.cli.terminal_text import number_of
from tests.support.batches import name_account

NUMBER = "+14155550123"
AGENT = "+14155550199"
ACTION = ("--phlo-id", "p", "--node-id", "n", "--to", NUMBER, "--trigger-source", AGENT)


def transfer(**options: str) -> list[str]:
    """Give the arguments of a sound transfer, but for some options."""
    arguments = ["transfer", *ACTION]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", value]
    return arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (transfer(to="4155550123"), "--to"),
        (transfer(trigger_source="0123456789"), "--trigger-source"),
        (transfer(phlo_id="../p"), "--phlo-id"),
        (transfer(node_id="n/m"), "--node-id"),
        (transfer(role=NUMBER), "--role"),
        (transfer(send_within="0"), "--send-within"),
        (transfer(send_within="nan"), "--send-within"),
        (transfer(send_within="soon"), "--send-within"),
        (transfer(base_url="ftp://example.com"), "--base-url"),
        (transfer(base_url="https://a:secret@example.com"), "--base-url"),
        (["transfer", "--phlo-id", "p"], "--node-id"),
        (["transfer", "--to"], "--to"),
        (["transfer", f"--no-such={NUMBER}"], "--no-such"),
        ([NUMBER], "--help"),
        ([*transfer(), NUMBER, "secret"], "belongs to no option"),
        (["check", "--node-id", "n"], "--node-id"),
        (["check", "--phlo-id", "a b"], "--phlo-id"),
        (["demo", "--transfers", "0"], "--transfers"),
        (["demo", "--transfers", "many"], "--transfers"),
        (["demo", "--quota", NUMBER], "--quota"),
        (["simulate", "--quota", "0/5"], "--quota"),
        (["simulate", "--port", "70000"], "--port"),
        (["simulate", "--latency", "-1"], "--latency"),
        (["simulate", "--seed", "x"], "--seed"),
        (["simulate", "--faults", "nonsense=0.5"], "--faults"),
        (["simulate", "--faults", "reset=2"], "--faults"),
    ],
)
def test_bad_input_is_one_line_naming_the_option(
    arguments: Sequence[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person reads one line, and a log must not hold anybody's number."""
    name_account(monkeypatch)
    assert main(arguments) == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("aiophlo: ")
    assert err.count("\n") == 1
    assert named in err
    assert "155550" not in err
    assert "secret" not in err


def test_refused_address_shows_the_right_spelling(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever left out the + must see where it belongs."""
    assert main(transfer(to="4155550123")) == Exit.UNUSABLE
    err = capsys.readouterr().err
    assert "such as '+14152225555' or 'sip:user@host'" in err
    assert "ending in '23'" in err


def test_missing_credentials_are_named_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has set one variable of two must learn which one is missing."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.delenv("PLIVO_AUTH_TOKEN", raising=False)
    assert main(transfer()) == Exit.UNUSABLE
    assert "PLIVO_AUTH_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_missing_extra_is_said_in_one_line(
    missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install aiophlo` alone puts the command there: it must not show a trace."""
    error = ModuleNotFoundError(name=missing)

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "aiophlo.cli.app":
                raise error

    monkeypatch.delitem(sys.modules, "aiophlo.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert main([]) == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "pip install 'aiophlo[cli]'" in err


def test_other_missing_module_is_not_blamed_on_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Installing the extra again would not help somebody whose aiohttp is broken."""
    monkeypatch.delitem(sys.modules, "aiophlo.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "aiophlo.cli.demo", None)
    with pytest.raises(ModuleNotFoundError, match=r"aiophlo\.cli\.demo"):
        main([])


def test_library_needs_neither_the_extra_nor_the_simulator() -> None:
    """A service must not pay at start for what only people at a terminal use."""
    code = (
        "import sys, aiophlo, aiophlo.cli;"
        "print([n for n in ('typer', 'rich', 'aiophlo.simulator') if n in sys.modules])"
    )
    done = subprocess.run(  # noqa: S603 -- our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_version_is_said_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report begins with it."""
    assert main(["--version"]) == Exit.ACCEPTED
    assert capsys.readouterr().out.startswith("aiophlo ")


def test_help_lists_the_commands_when_none_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A newcomer types the bare name first."""
    assert main([]) == Exit.UNUSABLE
    out = capsys.readouterr().out
    assert all(name in out for name in ("demo", "transfer", "check", "simulate"))
    assert "until-stdin-closes" not in out


@pytest.mark.parametrize("command", ["transfer", "batch", "check", "demo", "simulate"])
def test_help_is_whole_in_a_terminal_of_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example whose end is cut off can't be followed."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == Exit.ACCEPTED
    shown = [
        line for line in capsys.readouterr().out.splitlines() if "CHANCE" not in line
    ]
    assert not [line for line in shown if "…" in line]


def test_interruption_is_130_when_nothing_else_catches_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell script tells Ctrl-C from a refusal by this."""

    def interrupt(_text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aiophlo.model.accounts.Quota.parse", interrupt)
    assert main(["demo"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "aiophlo: interrupted\n"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], Exit.ACCEPTED),
        (["accepted"], Exit.ACCEPTED),
        (["rejected", "accepted"], Exit.REFUSED),
        (["accepted", "not_sent"], Exit.REFUSED),
        (["in_doubt", "rejected", "accepted"], Exit.IN_DOUBT),
    ],
)
def test_exit_code_is_the_highest_that_applies(verdicts: list[str], code: Exit) -> None:
    """A doubt must not hide behind refusals."""
    assert exit_of(verdicts) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (transfer(role="boss"), "--role: 'boss' is not one of 'agent', 'customer'"),
        (transfer(send_within="soon"), "--send-within: expected a number"),
        (["simulate", "--port", "x"], "--port: expected a whole number"),
        (["simulate", "--port", "70000"], "--port: expected 65535 or less"),
        (["demo", "--transfers", "0"], "--transfers: expected 1 or more"),
    ],
)
def test_error_is_in_our_words_whoever_found_it(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody who dials knows what an "Input" or a "Value error" is."""
    assert main(arguments) == Exit.UNUSABLE
    assert capsys.readouterr().err == f"aiophlo: {message}; see --help\n"


@pytest.mark.parametrize("name", ["PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"])
def test_wrong_credential_is_named_by_its_variable(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no --auth-id that somebody could correct."""
    name_account(monkeypatch)
    monkeypatch.setenv(name, "a b\u00e9")
    assert main(transfer()) == Exit.UNUSABLE
    err = capsys.readouterr().err
    assert err.startswith(f"aiophlo: {name}: expected ")
    assert "--auth" not in err


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_thing_is_singular(number: int) -> None:
    """`1 transfers` makes people doubt the number."""
    assert number_of(number, "row") == ["0 rows", "1 row", "2 rows"][number]
