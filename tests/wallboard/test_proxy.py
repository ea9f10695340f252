"""The page behind nginx: below another path, live, for nobody without a token."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from aiophlo.simulator import Simulator
from aiophlo.wallboard import Wallboard, aiohttp_app
from tests.support.doubles import pool_of
from tests.support.ports import free_port

TOKEN: Final = "a token that nobody guesses"  # noqa: S105 -- made up
NGINX: Final = shutil.which(
    "nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
)
# The least that people write: nginx tells nothing of whom it speaks for.
CONFIGURATION: Final = """
daemon off;
error_log {folder}/error.log;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /for/team/ {{ {options} proxy_pass http://127.0.0.1:{behind}/wall/; }}
    }}
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="apt-get install nginx-light")


@contextlib.asynccontextmanager
async def proxied(
    board: Wallboard, token: str | None, folder: Path, options: str = ""
) -> AsyncIterator[str]:
    """Serve a wallboard behind nginx."""
    app = web.Application()
    app.add_subapp("/wall", aiohttp_app(board, token=token))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = free_port()
    behind = runner.addresses[0][1]
    text = CONFIGURATION.format(
        folder=folder, port=port, behind=behind, options=options
    )
    (folder / "nginx.conf").write_text(text, "utf-8")
    assert NGINX is not None
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")),
        *("-e", str(folder / "error.log")),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _listening(port)
        yield f"http://127.0.0.1:{port}/for/team/"
    finally:
        process.terminate()
        await process.wait()
        await runner.cleanup()


async def _listening(port: int) -> None:
    async with asyncio.timeout(10.0):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.mark.parametrize(
    "options",
    [
        "",
        "proxy_http_version 1.1;",
        'proxy_http_version 1.1; proxy_set_header Connection "";',  # since nginx 1.29.7
    ],
)
async def test_nginx_without_a_token_shows_nothing(
    options: str, simulator: Simulator, tmp_path: Path
) -> None:
    """To the page all the world would seem to be on this machine."""
    async with (
        pool_of(simulator) as pool,
        proxied(Wallboard(pool), None, tmp_path, options) as url,
        aiohttp.ClientSession(headers={"Connection": "keep-alive"}) as session,
        session.get(url) as answer,
    ):
        assert answer.status == 403


async def test_page_is_live_below_another_path(
    simulator: Simulator, browser: Browser, tmp_path: Path
) -> None:
    """Nginx strips its own path, and keeps answers back unless it is told not to."""
    async with (
        pool_of(simulator) as pool,
        proxied(Wallboard(pool), TOKEN, tmp_path) as url,
    ):
        page = await browser.new_page()
        await page.goto(f"{url}?token={TOKEN}")
        assert page.url == url
        await expect(page.locator("#live")).to_have_text("Live")
        first = await page.locator("#processes").inner_text()
        assert "heard" in first
        await expect(page.locator("#well")).to_be_visible()
        await page.wait_for_timeout(3_000)
        await expect(page.locator("#live")).to_have_text("Live")
