"""A PHLO API to run against: nobody is rung, and everything is remembered."""

from aiophlo.simulator.call import Call, Member, State
from aiophlo.simulator.chance import parse_chances
from aiophlo.simulator.courier import Callback, Post
from aiophlo.simulator.faults import Fault
from aiophlo.simulator.ledger import Ledger, Record
from aiophlo.simulator.people import Habit, Reaction
from aiophlo.simulator.server import AUTH_ID, AUTH_TOKEN, HeldAnswers, Simulator
from aiophlo.simulator.threaded import in_thread

__all__ = [
    "AUTH_ID",
    "AUTH_TOKEN",
    "Call",
    "Callback",
    "Fault",
    "Habit",
    "HeldAnswers",
    "Ledger",
    "Member",
    "Post",
    "Reaction",
    "Record",
    "Simulator",
    "State",
    "in_thread",
    "parse_chances",
]
