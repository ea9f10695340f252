"""A PHLO API to run against: nobody is rung, and everything is remembered."""

from aiophlo.simulator.faults import Fault
from aiophlo.simulator.ledger import Ledger, Record
from aiophlo.simulator.server import AUTH_ID, AUTH_TOKEN, HeldAnswers, Simulator

__all__ = [
    "AUTH_ID",
    "AUTH_TOKEN",
    "Fault",
    "HeldAnswers",
    "Ledger",
    "Record",
    "Simulator",
]
