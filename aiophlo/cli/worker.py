"""`aiophlo worker`: sends what is in the queue, until it is told to stop."""

import asyncio
import logging
from typing import TYPE_CHECKING

from aiophlo.cli.batch_options import CallsPerSecond, Namespace
from aiophlo.cli.endpoint import Endpoint
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.options import AllowPlaintext, BaseUrl, Proxy, QuotaText
from aiophlo.cli.output import say, say_error
from aiophlo.cli.queue_options import (
    KeepDays,
    ListenUrl,
    QueueUrl,
    StopWithin,
    WorkerConcurrency,
    coordinator_at,
)
from aiophlo.model.accounts import Account, Quota
from aiophlo.model.redaction import mask_id
from aiophlo.pool import SessionPool

if TYPE_CHECKING:
    from aiophlo.postgres import Worker

_LOG = "%(asctime)s %(levelname)s %(message)s"


def worker(
    *,
    concurrency: WorkerConcurrency = 200,
    quota: QuotaText = "300/5",
    calls_per_second: CallsPerSecond = None,
    stop_within: StopWithin = 30.0,
    keep_days: KeepDays = 30.0,
    postgres_url: QueueUrl = None,
    listen_url: ListenUrl = None,
    namespace: Namespace = "aiophlo",
    base_url: BaseUrl = None,
    proxy: Proxy = None,
    allow_plaintext: AllowPlaintext = False,
) -> int:
    """Send what is in the queue for the account, until told to stop.

    SIGTERM and Ctrl-C end it in order: nothing new leaves, and what has left ends. A
    second one leaves that in doubt.
    """
    account = Account.from_env(
        quota=Quota.parse(quota), calls_per_second=calls_per_second
    )
    endpoint = Endpoint(base_url, proxy, allow_plaintext)
    coordinator = coordinator_at(postgres_url, namespace, listen_url=listen_url)
    pool = endpoint.pool(
        account,
        coordinator=coordinator,
        connections_per_account=max(concurrency, 1_000),
    )
    logger = logging.getLogger("aiophlo")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_LOG))
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        return asyncio.run(
            _work(
                pool,
                concurrency=concurrency,
                keep_days=keep_days,
                stop_within=stop_within,
            )
        )
    finally:
        logger.removeHandler(handler)


async def _work(
    pool: SessionPool, *, concurrency: int, keep_days: float, stop_within: float
) -> Exit:
    from aiophlo.postgres import MigrationError, Worker  # noqa: PLC0415 -- needs the extra

    try:
        async with pool:
            worker = Worker(
                pool,
                concurrency=concurrency,
                keep_days=keep_days,
                stop_within=stop_within,
            )
            stops = await _run(worker, mask_id(pool.accounts[0].auth_id))
    except MigrationError as error:
        raise UnusableError(str(error)) from error
    ended = worker.ended
    say(
        f"{ended['accepted']} accepted, {ended['rejected']} rejected,"
        f" {ended['not_sent']} not sent, {ended['in_doubt']} in doubt."
    )
    if stops > 1:
        return Exit.INTERRUPTED
    return Exit.IN_DOUBT if worker.left_in_doubt else Exit.ACCEPTED


async def _run(worker: "Worker", account: str) -> int:
    """Run until a signal comes; return how many did."""

    def interrupt(number: int) -> None:
        worker.stop()
        if number == 1:
            say_error("aiophlo: ending what has left; once more leaves it in doubt")

    with interrupts(interrupt) as seen:
        say_error(f"aiophlo: working on the queue of {account}")
        await worker.run()
    return len(seen)
