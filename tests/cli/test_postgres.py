"""`aiophlo postgres migrate`: what it says, and how it ends."""

import builtins
from typing import Any

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from tests.support.ports import free_port
from tests.support.postgres import Postgres


def test_url_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one libpq would take some database of the user's."""
    monkeypatch.delenv("AIOPHLO_POSTGRES_URL", raising=False)
    assert main(["postgres", "migrate"]) == Exit.UNUSABLE
    assert "AIOPHLO_POSTGRES_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--url", "secret-word"), "--url"),
        (
            ("--url", "postgresql://a:secret@127.0.0.1/b", "--namespace", "A;"),
            "--namespace",
        ),
    ],
)
def test_what_cannot_be_right_is_named(
    options: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A password must not come back in an error."""
    assert main(["postgres", "migrate", *options]) == Exit.UNUSABLE
    said = capsys.readouterr().err
    assert named in said
    assert "secret" not in said


def test_database_that_cannot_be_reached_is_told_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A traceback says less, and may hold the password."""
    url = f"postgresql://postgres:hush@127.0.0.1:{free_port()}/postgres"
    assert main(["postgres", "migrate", "--url", url]) == Exit.UNUSABLE
    said = capsys.readouterr().err
    assert "Connection refused" in said
    assert "hush" not in said


def test_queue_that_is_made_later_is_told_of(
    capsys: pytest.CaptureFixture[str], postgres: Postgres
) -> None:
    """Whoever installs the extra, and reads "up to date", looks for what went wrong."""
    command = ["postgres", "migrate", "--url", postgres.url, "--namespace", "later"]
    told = []
    for option in ("--no-queue", "--no-queue", "--queue", "--queue"):
        assert main([*command, option]) == Exit.ACCEPTED
        told.append(capsys.readouterr().out)
    assert told[0].startswith("later: applied 1, 2")
    assert told[1] == told[3] == "later: up to date\n"
    assert told[2] == "later: made the queue's tables\nlater: up to date\n"


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("postgres migrate --url postgresql://h/d", "postgres"),
        ("top --once postgresql://h/d", "postgres"),
        (
            "batch - --journal postgresql:n --postgres-url postgresql://h/d",
            "postgres",
        ),
        ("enqueue --report --postgres-url postgresql://h/d", "queue"),
    ],
)
def test_missing_extra_is_named(
    command: str,
    extra: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever installed the command line alone must learn what else it takes."""
    really = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401 -- __import__'s own
        if name.startswith("aiophlo.postgres") or (name, rest[2:3]) == (
            "aiophlo",
            (("postgres",),),
        ):
            raise ImportError(name)
        return really(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(command.split()) == Exit.UNUSABLE
    assert f"an extra: pip install 'aiophlo[{extra}]'" in capsys.readouterr().err
