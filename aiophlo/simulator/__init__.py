"""A PHLO API to run against: it rings no phone, and records every request.

Its ledger judges the verdicts of `protocol` and `sending`, so it shares no code with
them: what they get wrong, it must not get wrong as well. Each module imports only from
those above it:

=================  ====================================================
`quota`            an account's quota, in a moving window
`accounts`         the accounts, and which of them share a quota
`http11`           HTTP/1.1 byte by byte, so that faults can be written
`answer_meaning`   what an answer means: yes, no, not now, unclear
`faults`           every fault, and the bytes that are written for it
`api`              reading requests, and the documented answers
`scripted_faults`  how the next request that fits is answered
`audit`            comparing a client's outcomes with what was counted
`ledger`           every request and every dial
`random_faults`    faults drawn from a hash of each request
`people`           what people do when their phone rings
`call`             one live call: its members and their states
`call_actions`     carrying out each action on a live call
`signing`          Plivo's signature on what it posts
`event_poster`     posting a node's events, in order, late or twice
`call_list`        every leg, as Plivo's list of calls tells of it
`switchboard`      the live calls: which one a request is about
`conditions`       waiting until a condition has come to hold
`request_handler`  deciding each request, and answering it
`thread_access`    calls from any thread, run in the event loop
`controls`         what a test can do to the simulator
`http_control`     the same over HTTP: `/_simulator/…`
`server`           the API on a port of this machine
`threaded`         the simulator in a thread, for code that blocks
=================  ====================================================
"""

from aiophlo.simulator.call import Call, Member, State
from aiophlo.simulator.call_list import CallList, Listing, LoneLeg
from aiophlo.simulator.controls import AUTH_ID, AUTH_TOKEN, HeldAnswers
from aiophlo.simulator.event_poster import Callback
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.ledger import Ledger, Post, Record
from aiophlo.simulator.people import Habit, Reaction
from aiophlo.simulator.random_faults import parse_chances
from aiophlo.simulator.server import Simulator
from aiophlo.simulator.threaded import in_thread

__all__ = [
    "AUTH_ID",
    "AUTH_TOKEN",
    "Call",
    "CallList",
    "Callback",
    "Fault",
    "Habit",
    "HeldAnswers",
    "Ledger",
    "Listing",
    "LoneLeg",
    "Member",
    "Post",
    "Reaction",
    "Record",
    "Simulator",
    "State",
    "in_thread",
    "parse_chances",
]
