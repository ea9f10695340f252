"""`aiophlo worker`: sends what is in the queue, until it is told to stop."""

import asyncio
from typing import TYPE_CHECKING

from aiophlo.cli.batch_options import CallsPerSecond, Namespace
from aiophlo.cli.batch_text import counted
from aiophlo.cli.endpoint import Endpoint
from aiophlo.cli.exit_codes import Exit, UnusableError
from aiophlo.cli.interrupts import interrupts
from aiophlo.cli.log_lines import log_shown
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
_FIRST_TOLD = 5.0  # seconds until it says how far it is
_TOLD_EVERY = 30.0  # and from then on, if there is anything new


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
    with log_shown(say_error, _LOG, doubts=True):
        return asyncio.run(
            _work(
                pool,
                concurrency=concurrency,
                keep_days=keep_days,
                stop_within=stop_within,
            )
        )


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
    say(f"{counted(worker.ended)}.")
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
        telling = asyncio.create_task(_tell(worker))
        try:
            await worker.run()
        finally:
            telling.cancel()
    return len(seen)


async def _tell(worker: "Worker") -> None:
    """Say how far it is, whenever there is anything new."""
    told, pause = "", _FIRST_TOLD
    while True:
        await asyncio.sleep(pause)
        line = f"{counted(worker.ended)} so far"
        if worker.idle:
            line += "; nothing waits"
        if line != told:
            say_error(f"aiophlo: {line}")
        told, pause = line, _TOLD_EVERY
