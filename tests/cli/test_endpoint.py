"""The way to the API: base URL and proxy, by option and environment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiophlo.cli import main
from aiophlo.cli.exit_codes import Exit
from tests.support.batches import IDS, write_rows

NODE = ("--phlo-id", "p", "--node-id", "n")
TRANSFER = (
    *("transfer", *NODE, "--send-within", "1"),
    *("--to", "+14155550123", "--trigger-source", "+14155550199"),
)
CHECK = ("check", *NODE)
ELSEWHERE = "http://api.example.invalid/v1"
TOKEN = "canary-token"  # noqa: S105 -- nobody's


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have credentials, and no proxy but the test's own."""
    monkeypatch.setenv("PLIVO_AUTH_ID", "MA" + "X" * 18)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", TOKEN)
    monkeypatch.delenv("AIOPHLO_BASE_URL", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.asynccontextmanager
async def a_proxy() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a proxy that refuses all; give its URL, and what it was asked."""
    asked: list[bytes] = []

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize("command", [TRANSFER, CHECK, "batch"])
@pytest.mark.parametrize("way", ["--proxy", "HTTPS_PROXY", "all_proxy"])
async def test_every_command_goes_through_the_proxy_it_is_given(
    *,
    command: tuple[str, ...] | str,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In most companies there is no other way out, and curl finds it by itself."""
    if isinstance(command, str):
        rows = write_rows(tmp_path / "a.csv", 1)
        command = ("batch", str(rows), *IDS, "--send-within", "1", "--quota", "none")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with a_proxy() as (url, asked):
        more = [way, url] if way == "--proxy" else []
        if not more:
            monkeypatch.setenv(way, url)
        options = ["--base-url", "https://api.example.invalid/v1", *more]
        code = await asyncio.to_thread(main, [*command, *options])
    assert code == Exit.REFUSED  # the proxy did: nothing was sent
    assert {request.split(b"\r\n")[0] for request in asked} == {
        b"CONNECT api.example.invalid:443 HTTP/1.1"
    }
    assert not any(b"uthorization" in request for request in asked)


async def test_host_that_the_environment_excepts_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A simulator in the company's own network is reached directly."""
    async with a_proxy() as (url, asked):
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("NO_PROXY", ".invalid")
        options = ["--base-url", "https://api.example.invalid/v1"]
        await asyncio.to_thread(main, [*TRANSFER, *options])
    assert asked == []


@pytest.mark.parametrize(
    "command", [TRANSFER, (*TRANSFER, "--dry-run"), CHECK, "batch"]
)
@pytest.mark.parametrize("by_option", [True, False])
def test_credentials_go_in_clear_only_when_asked_to(
    *,
    command: tuple[str, ...] | str,
    by_option: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads them on the way can ring anybody at the account's cost."""
    if isinstance(command, str):
        rows = write_rows(tmp_path / "a.csv", 1)
        command = ("batch", str(rows), *IDS, "--journal", str(tmp_path / "j.db"))
    options = ["--base-url", ELSEWHERE] if by_option else []
    if not by_option:
        monkeypatch.setenv("AIOPHLO_BASE_URL", ELSEWHERE)
    assert main([*command, *options]) == Exit.UNUSABLE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    name = "--base-url" if by_option else "AIOPHLO_BASE_URL"
    assert err.startswith(f"aiophlo: {name}: expected https://")
    assert "--allow-plaintext" in err
    assert "allow_plaintext" not in err
    assert not (tmp_path / "j.db").exists()


async def test_credentials_go_in_clear_when_asked_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A test bench behind a tunnel of its own is nobody else's business."""
    async with a_proxy() as (url, asked):
        options = ["--base-url", ELSEWHERE, "--allow-plaintext", "--proxy", url]
        await asyncio.to_thread(main, [*TRANSFER, *options])
    assert asked[0].startswith(b"POST http://api.example.invalid/v1/phlo/p/")
    assert TOKEN not in "".join(capsys.readouterr())


@pytest.mark.parametrize("url", ["proxy:3128", "socks5://u:secret@h:1080", "http://"])
def test_wrong_proxy_is_named_and_not_shown(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold a password."""
    assert main([*TRANSFER, "--proxy", url]) == Exit.UNUSABLE
    err = capsys.readouterr().err
    assert err.startswith("aiophlo: --proxy: expected an http(s) URL")
    assert "secret" not in err
