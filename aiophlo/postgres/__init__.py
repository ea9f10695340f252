"""Pools that share a Postgres keep the promise together.

The modules, each imports only those above it:

`validation`        what a coordinator is made with
`keyed_hash`        what stands for a party in the database
`server_clock`      the server's clock, mapped to the event loop's
`connection`        one connection, whose every statement ends within a second
`operations`        what is asked in one go, and what comes of it
`pool_shares`       how many pools there are, and what each may book
`shared_meter`      when this pool's slots of a shared rate come
`shared_actions`    one dial per double click, and the last word to a party
`shared_calls`      what events tell of calls, told to all and kept while calls last
`lease`             what a pool may do in one handover, and until when
`shared_handovers`  the leases of a pool, and what it takes over from others
`shared_snapshots`  what pools tell each other's wallboards
`listener`          what other pools tell, and that this one lives
`queue_schema`      the tables of the queue's engine, procrastinate
`migrate`           the schema, and its versions
`batch_link`        what one runner asks of a batch's memory, in blocks
`batch_reader`      reads a batch's memory, from any machine
`sent_lists`        lists of other batches, to tell one that was sent already
`batch_journal`     a batch's memory, for several runners
`queued_actions`    actions as the queue keeps them
`queue_journal`     the queue's memory, for one who sends
`queue`             puts actions in the queue, and says what came of them
`queue_client`      the coordinator's methods for that
`callbacks`         tells URLs what came of queued actions
`worker`            sends what is in the queue
`coordinator`       all of it, for one pool
"""

from aiophlo.postgres.batch_journal import PostgresJournal
from aiophlo.postgres.batch_reader import PostgresJournalReader
from aiophlo.postgres.coordinator import PostgresCoordinator
from aiophlo.postgres.migrate import MigrationError, migrate
from aiophlo.postgres.queue import EnqueueReport, QueueError
from aiophlo.postgres.worker import Worker

__all__ = [
    "EnqueueReport",
    "MigrationError",
    "PostgresCoordinator",
    "PostgresJournal",
    "PostgresJournalReader",
    "QueueError",
    "Worker",
    "migrate",
]
