"""What the kernel delivers of requests that were given up, once the link is back.

AIOPHLO_LONG=1 looks for a minute, which no try of the kernel's outlasts.
"""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import trustme

from tests.support.cut_link import SERVER, link, why_not

WHY_NOT: Final = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

SERVE: Final = """
import asyncio, ssl, sys
host, certificate = sys.argv[1:]

async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
            body = await reader.readexactly(length)
            print("got", body.decode(), flush=True)
            writer.write(b"HTTP/1.1 201 x\\r\\nContent-Length: 12\\r\\n\\r\\n")
            writer.write(b'{"error":""}')
    except (EOFError, OSError):
        print("ended", flush=True)

async def main():
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, host, 8443, ssl=tls)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
# It sends one that is answered, says so, and goes on once it is told that the link
# is cut: sends another, and gives that up in the way that it was asked to.
SEND: Final = """
import asyncio, os, ssl, sys
from aiophlo import Account, InDoubtError, RunPhlo, SessionPool
host, certificate, loop, way = sys.argv[1:]

async def main():
    account = Account("MACUT000000000000001", "x", quota=None)
    scheme, tls = "http", None
    if certificate:
        scheme, tls = "https", ssl.create_default_context(cafile=certificate)
    pool = await SessionPool(
        account, base_url=f"{scheme}://{host}:8443", ssl_context=tls,
        allow_plaintext=True, keepalive=60.0,
        answer_within=1.0 if way == "silence" else 9.0,
    ).open()
    await pool.send(RunPhlo(phlo_id="p", parameters={"say": "first"}))
    print("sent", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    second = RunPhlo(phlo_id="p", parameters={"say": "second"})
    task = asyncio.ensure_future(pool.send(second))
    if way == "silence":
        await asyncio.wait([task])
    else:
        await asyncio.sleep(0.3)
    if way == "cancel":
        task.cancel()
        await asyncio.wait([task])
    elif way == "close":
        await pool._http_clients.close()
        await asyncio.wait([task])
    elif way == "exit":
        print("gave up", flush=True)
        os._exit(0)
    if not task.cancelled():
        assert isinstance(task.exception(), InDoubtError), task
    print("gave up", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    os._exit(0)

if loop == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


# Seconds. The link is away so shortly that the kernel's next try is some two off.
LOOKED_FOR: Final = 60.0 if os.environ.get("AIOPHLO_LONG") == "1" else 5.0
WAYS: Final = ("silence", "cancel", "close", "exit")


async def test_nothing_is_delivered_after_the_verdict(tmp_path: Path) -> None:
    """A phone rang seconds after its transfer had been given up."""
    authority = trustme.CA()
    issued = authority.issue_cert(SERVER).private_key_and_cert_chain_pem
    issued.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tried = list(itertools.product(("stock", "uvloop"), WAYS, (None, tmp_path)))
    late = await asyncio.gather(*(got_late(*how) for how in tried))
    assert dict(zip(tried, late, strict=True)) == dict.fromkeys(tried, "")


async def got_late(loop: str, way: str, certificates: Path | None) -> str:
    """Give what a server gets of a request once its client has given it up."""
    certificate = trusted = ""
    if certificates is not None:
        certificate = str(certificates / "server.pem")
        trusted = str(certificates / "ca.pem")
    with link() as hosts:
        server = await start(hosts.server, SERVE, SERVER, certificate)
        client = await start(hosts.client, SEND, SERVER, trusted, loop, way)
        try:
            assert await line(server) == "ready"
            assert await line(client) == "sent"
            assert "first" in await line(server)
            hosts.cut()
            tell(client)
            assert await line(client) == "gave up"
            hosts.mend()
            with contextlib.suppress(TimeoutError):
                while (said := await line(server, LOOKED_FOR)) == "ended":
                    pass
                return said
            return ""
        finally:
            for process in (client, server):
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def start(namespace: str, *code: str) -> asyncio.subprocess.Process:
    """Run a program in a namespace."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", *code]
    return await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


async def line(process: asyncio.subprocess.Process, within: float = 60.0) -> str:
    """Give the next line that a program says."""
    assert process.stdout is not None
    text = await asyncio.wait_for(process.stdout.readline(), within)
    return text.decode().strip()


def tell(process: asyncio.subprocess.Process) -> None:
    """Let a program go on."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
