"""The schema that pools share, and its versions.

A migration is a file of SQL, applied once, in the order of their numbers, by whoever
comes first: the others wait.
"""

import asyncio
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

import psycopg

from aiophlo.errors import PhloError
from aiophlo.logs import logger
from aiophlo.postgres.connection import Connection, said, shut
from aiophlo.postgres.queue_schema import is_installed, make_queue
from aiophlo.postgres.validation import check_namespace, check_url

_PATIENCE: Final = 60.0  # seconds for all of it, other migrations' turns included
_LOCK: Final = 0x61696F70686C6F  # "aiophlo"
_NAME: Final = re.compile(r"(\d{3})_\w+\.sql")


class MigrationError(PhloError):
    """The schema could not be made or brought up to date."""


def migrations() -> Iterator[tuple[int, str]]:
    """Yield the number and the SQL of each migration, in order."""
    folder = files("aiophlo.postgres") / "migrations"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        name = _NAME.fullmatch(file.name)
        if name is not None:
            yield int(name[1]), file.read_text("utf-8")


def newest() -> int:
    """Return the number of the last migration."""
    return max(number for number, _ in migrations())


async def check_version(connection: Connection, schema: str) -> None:
    """Refuse a schema that isn't there, or is older than this release needs.

    Raises:
        AwayError: The database can't be reached.
        MigrationError: Says what to do.
    """
    version = 0
    table = f'"{schema}".migrations'
    if await connection.fetch("SELECT to_regclass($1)::text", table) is not None:
        query = f"SELECT max(number) FROM {table}"  # noqa: S608 -- a checked identifier
        version = int(await connection.fetch(query) or 0)
    if version < newest():  # a newer one serves, too: workers are renewed in turns
        raise MigrationError(
            f"postgres: schema {schema!r} has version {version}, and {newest()} is"
            " needed: run `aiophlo postgres migrate`"
        )


async def migrate(
    url: str, *, namespace: str = "aiophlo", queue: bool | None = None
) -> list[int]:
    """Make the schema, or bring it up to date.

    Needs the right to create a schema in the database, or to own the one that is
    there. What pools need is less: see the documentation.

    Args:
        url: Where the database is.
        namespace: Name of the schema.
        queue: Make the tables of the queue's engine, procrastinate, in it, too; None if
            the extra `queue` is installed.

    Returns:
        The numbers of the migrations that were applied; none if it was up to date.

    Raises:
        InvalidInputError: An argument can't be right.
        MigrationError: The database refused, or can't be reached.
    """
    check_url(url, "url")
    schema = check_namespace(namespace)
    if queue is None:
        queue = is_installed()
    elif queue and not is_installed():
        raise MigrationError("queue is an extra: pip install 'aiophlo[queue]'")
    try:
        async with await psycopg.AsyncConnection.connect(
            url, connect_timeout=10, prepare_threshold=None
        ) as connection:
            return await _apply_in_time(connection, schema, queue=queue)
    except (psycopg.Error, OSError) as error:
        raise MigrationError(f"postgres: {said(error)}") from error


async def _apply_in_time(
    connection: psycopg.AsyncConnection[tuple[object, ...]], schema: str, *, queue: bool
) -> list[int]:
    applying = asyncio.ensure_future(_apply(connection, schema, queue=queue))
    try:
        await asyncio.wait({applying}, timeout=_PATIENCE)
        if not applying.done():
            raise TimeoutError(f"no end within {_PATIENCE:.3g} s")
        return await applying
    finally:
        if not applying.done():  # psycopg would wait for a silent server to cancel
            shut(connection.pgconn)
            await asyncio.wait({applying}, timeout=1.0)
            applying.cancel()


async def _apply(
    connection: psycopg.AsyncConnection[tuple[object, ...]], schema: str, *, queue: bool
) -> list[int]:
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    found = await connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f'"{schema}".migrations',)
    )
    row = await found.fetchone()
    if row is None or not row[0]:
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
        await connection.execute(
            f'CREATE TABLE "{schema}".migrations ('
            " number integer PRIMARY KEY,"
            " applied timestamptz NOT NULL DEFAULT now())".encode()
        )
    found = await connection.execute(
        f'SELECT number FROM "{schema}".migrations'.encode()  # noqa: S608 -- a checked identifier
    )
    known = {number for (number,) in await found.fetchall()}
    applied = []
    for number, source in migrations():
        if number not in known:
            await connection.execute(source.replace("{schema}", f'"{schema}"').encode())
            await connection.execute(
                f'INSERT INTO "{schema}".migrations VALUES (%s)'.encode(),  # noqa: S608 -- as above
                (number,),
            )
            applied.append(number)
    if queue and await make_queue(connection, schema):
        logger.info("%s: made the queue's tables", schema)
    await connection.commit()  # in time, too
    return applied
