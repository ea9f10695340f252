"""Through a pooler, by TLS with a password, and on other versions of the server."""

import asyncio
import logging
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
import trustme

from aiophlo import AbortTransfer, Accepted, SessionPool, WarmTransfer
from aiophlo.postgres import PostgresCoordinator, migrate
from aiophlo.simulator import Simulator
from tests.postgres.conftest import send
from tests.support.doubles import act, pool_of
from tests.support.ports import free_port
from tests.support.postgres import Postgres, find_all_binaries, running_postgres

pytestmark = pytest.mark.long

VERSIONS: Final = find_all_binaries()
PASSWORD: Final = "a password that is in no log"  # noqa: S105 -- of a test's server


@asynccontextmanager
async def two_pools(
    simulator: Simulator, url: str, listen_url: str | None = None
) -> AsyncIterator[list[SessionPool]]:
    """Give two pools that share a database."""
    one, two = (
        pool_of(simulator, coordinator=PostgresCoordinator(url, listen_url=listen_url))
        for _ in range(2)
    )
    async with one, two:
        assert one.state().coordinated
        assert two.state().coordinated
        yield [one, two]


async def share_all(pools: list[SessionPool], simulator: Simulator) -> None:
    """Do what needs each operation that pools ask of the database."""
    one, two = pools
    held = simulator.hold_answers()
    clicks = [asyncio.create_task(send(it, act(WarmTransfer, 1))) for it in pools]
    await simulator.wait_for(requests=1)
    held.release()
    outcomes = await asyncio.gather(*clicks)
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert sorted(outcome.joined for outcome in outcomes) == [False, True]
    assert isinstance(await send(two, act(AbortTransfer, 1)), Accepted)
    async with one.stream(act(WarmTransfer, 10 + n) for n in range(20)) as outcomes_:
        assert [it.joined async for it in outcomes_] == [False] * 20
    assert simulator.ledger.dials() == 21
    assert all(pool.state().coordinated for pool in pools)


@pytest.fixture
def pooler(own_postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """Give the address of a pgbouncer with one connection to share, by transaction."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert not os.environ.get("CI"), "the gate installs pgbouncer"
        pytest.skip("pgbouncer isn't installed")
    port = free_port()
    settings = own_postgres.folder / "pgbouncer.ini"
    settings.write_text(
        "[databases]\n"
        f"postgres = host=127.0.0.1 port={own_postgres.port} user=postgres\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 1\n"
    )
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(  # noqa: S603 -- a test's own
            [program, str(settings)],
            stderr=log,
            user="postgres" if os.getuid() == 0 else None,
        )
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        running.terminate()
        running.wait()


async def _until_it_answers(url: str) -> None:
    for _ in range(100):
        try:
            async with await psycopg.AsyncConnection.connect(url):
                return
        except psycopg.OperationalError:
            await asyncio.sleep(0.05)
    raise TimeoutError


async def test_pools_book_through_a_pooler_in_transaction_mode(
    pooler: str, own_postgres: Postgres, simulator: Simulator
) -> None:
    """It gives each transaction whatever connection is free, and remembers nothing."""
    await migrate(own_postgres.url)
    await _until_it_answers(pooler)
    async with two_pools(simulator, pooler, own_postgres.url) as pools:
        await share_all(pools, simulator)


@pytest.fixture
def authority(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Let the server speak TLS alone, and ask for a password."""
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'".encode())
    own_postgres.stop()
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    key = own_postgres.data / "server.key"
    key.touch(mode=0o600)
    server.private_key_pem.write_to_path(str(key))
    server.cert_chain_pems[0].write_to_path(str(own_postgres.data / "server.crt"))
    if os.getuid() == 0:
        shutil.chown(key, "postgres")
    rules = "hostssl all all 127.0.0.1/32 scram-sha-256\n"
    (own_postgres.data / "pg_hba.conf").write_text(rules)
    own_postgres.settings["ssl"] = "on"
    own_postgres.start()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    return authority


async def test_password_and_certificates_come_from_the_environment(
    authority: trustme.CA,
    own_postgres: Postgres,
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A password in an address is in a process's arguments, and soon in a log."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "authority.pem"))
    await migrate(own_postgres.url)
    async with two_pools(simulator, own_postgres.url) as pools:
        await share_all(pools, simulator)


@pytest.mark.usefixtures("authority")
async def test_server_that_another_authority_vouches_for_is_not_believed(
    own_postgres: Postgres,
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would learn of all calls, and could have them all sent twice."""
    caplog.set_level(logging.DEBUG, "aiophlo")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "authority.pem"))
    coordinator = PostgresCoordinator(own_postgres.url)
    async with pool_of(simulator, coordinator=coordinator) as pool:
        assert not pool.state().coordinated
        began = time.monotonic()
        assert isinstance(await send(pool, act(WarmTransfer, 1)), Accepted)
        assert time.monotonic() - began < 1.0
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("version", sorted(VERSIONS))
async def test_pools_share_on_each_version_of_the_server(
    version: str, simulator: Simulator
) -> None:
    """The documentation says from which version on."""
    with running_postgres(VERSIONS[version]) as postgres:
        await migrate(postgres.url)
        async with two_pools(simulator, postgres.url) as pools:
            await share_all(pools, simulator)
