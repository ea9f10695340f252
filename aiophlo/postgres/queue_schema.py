"""procrastinate's tables and functions, in the schema that pools share.

They are as its release that is installed makes them, and stay so: what the queue calls
of them is made for that release.
"""

import importlib.util
from importlib.resources import files
from typing import Final

import psycopg

# Where one account has a long backlog, the jobs of others are found past it. A job's
# row is written three times, and deleted: what is dead has to go soon. Its events and
# notices are for procrastinate's own workers; without them a job costs half.
_AFTER: Final = """
    CREATE INDEX aiophlo_jobs_by_queue
        ON procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo';
    ALTER TABLE procrastinate_jobs SET (
        fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.02,
        autovacuum_analyze_threshold = 2000);
    ALTER TABLE procrastinate_jobs
        DISABLE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1,
        DISABLE TRIGGER procrastinate_trigger_status_events_insert_v1,
        DISABLE TRIGGER procrastinate_trigger_status_events_update_v1,
        DISABLE TRIGGER procrastinate_trigger_scheduled_events_v1;
"""


def is_installed() -> bool:
    """Say whether the extra is."""
    return importlib.util.find_spec("procrastinate") is not None


async def make_queue(
    connection: psycopg.AsyncConnection[tuple[object, ...]], schema: str
) -> bool:
    """Make procrastinate's tables in a schema; False if they are there.

    Args:
        connection: In a transaction.
        schema: Its checked name.

    Raises:
        psycopg.Error: The database refuses.
    """
    found = await connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f'"{schema}".procrastinate_jobs',)
    )
    row = await found.fetchone()
    if row is not None and row[0]:
        return False
    source = (files("procrastinate.sql") / "schema.sql").read_text("utf-8")
    await connection.execute(f'SET LOCAL search_path TO "{schema}"'.encode())
    await connection.execute(source.encode())
    await connection.execute(_AFTER.encode())
    return True
